"""docs/performance.md says what the results say, and a stale page or figure is noticed."""

import shutil

import pytest

from benchmarks.plots import draw, is_current
from benchmarks.render import BLOCKS, block
from benchmarks.targets import TARGETS, above_model_gb
from saebench.errors import UsageError
from scripts.render_performance import ROOT, main, render
from tests.benchmarks.conftest import GB, make_result, one_side

PAGE = "# Title\n\n<!-- bench:floor -->\nold\n<!-- /bench -->\n\nafter\n"


def cells(table, first):
    """The cells of the row that begins with ``first``."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return next(row for row in rows if row[0].startswith(first))


def test_block_is_filled_and_the_rest_kept(results):
    text = render(PAGE, results)
    assert text.startswith("# Title\n\n<!-- bench:floor -->\n")
    assert text.endswith("<!-- /bench -->\n\nafter\n")
    assert "old" not in text
    assert cells(text, "1") == ["1", "1", "6", "8", "0.75"]


def test_rendering_again_changes_nothing(results):
    once = render(PAGE, results)
    assert render(once, results) == once


@pytest.mark.parametrize("page", ["", "<!-- bench:floor -->\n", "<!-- bench:flor -->\n<!-- /bench -->\n"])
def test_a_page_that_cannot_be_filled_is_refused(page, results):
    with pytest.raises(UsageError, match=r"one of them is missing|[Dd]id you mean"):
        render(page, results)


@pytest.mark.parametrize("name", BLOCKS)
def test_nothing_measured_is_said(name):
    assert block(name, {}) == "*Not measured yet.*"


def test_targets_are_judged_in_their_direction(results):
    table = block("targets", results)
    assert cells(table, "`core`, one SAE, float32")[1:] == ["≥ 2.5", "3", "reached"]
    assert cells(table, "`core`, one SAE, default")[1:] == ["≥ 8", "3", "**not reached**"]
    assert cells(table, "share of the floor, one")[3] == "reached"
    assert cells(table, "share of the floor, ten")[3] == "not measured"
    assert cells(table, "time against tokens")[1:] == ["≤ 1.05", "1", "reached"]


def test_default_dtypes_are_judged_by_their_own_comparison_where_there_is_one(results):
    extra = {"default/evaluation/1": 9.0}
    faster = results["peer"].model_copy(update={"ratios": results["peer"].ratios | extra})
    target = next(target for target in TARGETS if "one SAE, default" in target.label)
    assert target.figure(results | {"peer": faster}) == 9.0


def test_memory_is_the_most_of_ours_and_never_the_peers_or_that_of_wide_saes(results):
    assert above_model_gb(results) == 1.0
    bigger = make_result("peer", [one_side("ours", 1, 1.0, above=2 * GB), one_side("peer", 1, 1.0, above=9 * GB)], {})
    assert above_model_gb(results | {"peer": bigger}) == 2.0


def test_tables_show_medians_memory_and_metrics(results):
    assert cells(block("peer", results), "1") == ["1", "float32", "evaluation", "3", "60", "20", "3"]
    assert cells(block("peer", results).split("\n\n")[1], "10") == ["10", "10", "8", "3", "1"]
    assert cells(block("metrics", results), "`ce_loss_with_sae`") == ["`ce_loss_with_sae`", "5", "`ce_sae`", "4.9"]
    assert "explained_variance" not in block("metrics", results), "ours did not score it"
    assert cells(block("growth", results), "tokens")[1] == "1"
    assert "some CPU" in block("machine", results)


def test_probing_shows_phases_their_sum_and_the_scores_of_both_sides(results):
    table = block("probing", results)
    assert cells(table, "passes")[1:] == ["60", "15", "4", "4"]
    assert cells(table, "encoding")[1:] == ["40", "5", "8", "8"]
    assert cells(table, "together")[1:] == ["100", "20", "5", "5.6"]
    assert cells(table, "sae-probes") == ["sae-probes", "0.6", "0.85"]
    targets = block("targets", results)
    assert cells(targets, "`sparse_probing`, three SAEs, without the passes")[1:] == ["≥ 5", "8", "reached"]
    assert cells(targets, "`sparse_probing`, three SAEs, passes included")[1:] == ["≥ 5", "5", "reached"]


def test_generation_shows_medians_and_whether_both_sides_write_the_same(results):
    table = block("generation", results)
    assert cells(table, "6") == ["6", "greedy", "3", "12", "3", "4"]
    assert "75.0%" in table


def test_figures_tell_what_they_show(results, tmp_path):
    paths = draw(results, tmp_path)
    assert sorted(path.name for path in paths) == ["growth.svg", "peer.svg"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in draw(results, tmp_path)] == before, "drawing is deterministic"
    assert is_current(tmp_path / "peer.svg", results["peer"])
    assert not is_current(tmp_path / "peer.svg", results["growth"])
    assert not is_current(tmp_path / "absent.svg", results["peer"])


def test_check_writes_nothing_and_tells_a_stale_page_or_figure(results, tmp_path, capsys):
    for result in results.values():
        result.write(tmp_path / "results")
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    arguments = ["--page", str(page), "--results", str(tmp_path / "results")]
    assert main(["--check", *arguments]) == 1
    assert "out of date: page.md" in capsys.readouterr().err
    assert page.read_text() == PAGE
    assert main(arguments) == 0
    assert main(["--check", *arguments]) == 0
    shutil.rmtree(tmp_path / "figures")
    assert main(["--check", *arguments]) == 1


def test_the_published_page_holds_every_block_once():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert [text.count(f"<!-- bench:{name} -->") for name in BLOCKS] == [1] * len(BLOCKS)
