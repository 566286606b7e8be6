"""A page's table is what the published records say, and a stale one is noticed."""

from pathlib import Path

import pytest

from saebench.errors import UsageError
from saebench.results import table
from saebench.results.store import ResultStore
from scripts.render_tables import main, render
from tests.results.conftest import make_identity, make_number, make_record

README = "# Title\n\nbefore\n\n<!-- table:core -->\nold\n<!-- /table -->\n\nafter\n"


@pytest.fixture
def records():
    trained = make_record(measurements=[make_number("fvu", 0.0951, 0.0942, 0.0960), make_number("mse", 5.0)])
    control = make_record(
        make_identity(sae="baseline:random"), measurements=[make_number("fvu", 0.97, 0.95, 0.99)], control=True
    )
    other_task = make_record(make_identity(task="elsewhere"), measurements=[make_number("score", 1.0)])
    return [trained, control, other_task]


def test_block_is_filled_and_the_rest_kept(records):
    text = render(README, table.from_records(records))
    assert text.startswith("# Title\n\nbefore\n\n<!-- table:core -->\n")
    assert text.endswith("\n<!-- /table -->\n\nafter\n")
    assert "old" not in text
    assert "0.0951 [0.0942, 0.0960]" in text
    assert text.index("zoo:topk-k32-s0") < text.index("baseline:random (control)")
    assert "2 records of saebench 0.1.0 on cpu, 0.4 minutes" in text
    assert "elsewhere" not in text
    assert "mse" not in text, "only the columns that the task's card names"


def test_rendering_again_changes_nothing(records):
    once = render(README, table.from_records(records))
    assert render(once, table.from_records(records)) == once


def test_no_records_is_said():
    assert "No published records yet" in render(README, table.from_records([]))


@pytest.mark.parametrize("text", [README.replace("<!-- /table -->", ""), README + "<!-- table:core -->\n"])
def test_malformed_blocks_are_refused(text: str):
    with pytest.raises(UsageError, match="closed by"):
        render(text, table.from_records([]))


def test_a_page_without_blocks_is_left_alone():
    assert render("no block", table.from_records([])) == "no block"


def test_a_block_may_name_its_metrics(records):
    text = render(README.replace("table:core", "table:core mse"), table.from_records(records))
    assert "<!-- table:core mse -->" in text
    assert "| mse" in text
    assert "fvu" not in text
    with pytest.raises(UsageError, match="Did you mean 'mse'"):
        render(README.replace("table:core", "table:core msee"), table.from_records(records))


def test_unknown_task_is_refused():
    with pytest.raises(UsageError, match="Did you mean 'core'"):
        render(README.replace("table:core", "table:cor"), table.from_records([]))


def test_check_notices_new_records(records, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    readme, results = tmp_path / "README.md", tmp_path / "results"
    readme.write_text(README)
    store = ResultStore(results)
    given = [str(readme), f"--results={results}"]
    for item in records[:1]:
        store.write(item)
    assert main([*given, "--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert readme.read_text() == README, "--check writes nothing"
    assert main(given) == 0
    assert main([*given, "--check"]) == 0
    store.write(records[1])
    assert main([*given, "--check"]) == 1
