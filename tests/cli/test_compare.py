"""``saebench compare`` on records of made-up SAEs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saebench.results.record import GROUP, Status
from saebench.results.store import ResultStore
from tests.cli.conftest import Invoke
from tests.results.conftest import VERSION, make_identity, make_number, make_record
from tests.results.damage import DAMAGES

METRICS = ("fvu", "ce_recovered_mean", "l0", "mse")
PRINT = "0123456789abcdef" * 4


def write(root: Path, sae: str, shift: float = 0.0, **changes: Any) -> str:
    """A record of ``sae`` with ``METRICS`` on 20 sequences, its fvu below others' by ``shift``; returns its id."""
    rng = np.random.default_rng([*sae.encode()])
    hard = np.linspace(0.1, 0.9, 20)
    units = {metric: hard - (shift if metric == "fvu" else 0.0) + 0.001 * rng.normal(size=20) for metric in METRICS} | {
        "l0": np.full(20, 32.0)
    }
    record = make_record(
        make_identity(**({"sae": sae, "sae_fingerprint": sae * 4} | changes)),
        measurements=[
            *(make_number(key, float(values.mean()), n=20, contributions=key) for key, values in units.items()),
            make_number("fvu", 0.5, subset="news", n=20),
        ],
    )
    parts = {f"{key}.num": values for key, values in units.items()}
    ResultStore(root).write(record, parts | {f"{key}.den": np.ones(20) for key in units})
    return record.record_id


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of several SAEs. Read only."""
    folder = tmp_path_factory.mktemp("compare") / "results"
    write(folder, "zoo:plain-s0")
    write(folder, "zoo:sharp-s0", 0.1)
    write(folder, "sae_lens:some/folder/sharp-s0", 0.1)
    write(folder, "zoo:other-version", task_version=9)
    write(folder, "zoo:twice", sae_fingerprint="f" * 64)
    write(folder, "zoo:twice", sae_fingerprint=PRINT)
    write(folder, "zoo:seeds")
    write(folder, "zoo:seeds", seed=1)
    failed = make_record(make_identity(sae="zoo:broken"), status=Status.FAILED, error="weights hold NaN")
    ResultStore(folder).write(failed)
    group = make_record(make_identity(sae="trio=zoo:a,zoo:b"), measurements=[make_number("fvu", 0.5)])
    group.sae.name = f"{GROUP}trio"
    ResultStore(folder).write(group)
    return folder


def rows(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in output.splitlines() if " ↓" in line or " ↑" in line}


def test_text(invoke: Invoke, root: Path):
    result = invoke("compare", "plain-s0", "zoo:sharp-s0", "--results", root)
    assert result.exit_code == 0, result.output
    assert "A: zoo:plain-s0 (topk, 2,048 latents, L0 32)" in result.stdout
    assert f"core v{VERSION} · preset quick · asset:gemma-3-270m · blocks.9.hook_resid_post · seed 0" in result.stdout
    lines = rows(result.stdout)
    assert "better" in lines["fvu"]
    assert "undecided" in lines["ce_recovered_mean"]
    assert "20 sequences" in result.stdout
    assert "mse" not in lines  # not among the main ones
    assert "2 more numbers are in both records" in result.stdout
    assert "not retraining" in result.stdout


def test_turned_round(invoke: Invoke, root: Path):
    lines = rows(invoke("compare", "zoo:sharp-s0", "plain-s0", "--results", root).stdout)
    assert "worse" in lines["fvu"]


def test_choice_of_metrics(invoke: Invoke, root: Path):
    both = ("compare", "plain-s0", "zoo:sharp-s0", "--results", root, "--format", "json")

    def chosen(*options: str) -> list[tuple[str, str]]:
        found = json.loads(invoke(*both, *options).stdout)["differences"]
        return [(each["metric"], each["subset"]) for each in found]

    assert chosen() == [("fvu", ""), ("ce_recovered_mean", ""), ("l0", "")]
    assert chosen("--all") == [("fvu", ""), ("ce_recovered_mean", ""), ("l0", ""), ("mse", "")]
    assert chosen("--metric", "mse", "--metric", "l0") == [("mse", ""), ("l0", "")]
    assert chosen("--metric", "fvu", "--subsets") == [("fvu", ""), ("fvu", "news")]
    assert chosen("--task", "core", "--preset", "quick", "--seed", "0") == chosen()


def test_json(invoke: Invoke, root: Path):
    content = json.loads(
        invoke("compare", "plain-s0", "zoo:sharp-s0", "--results", root, "--format", "json", "--subsets").stdout
    )
    assert content["a"]["sae"] == "zoo:plain-s0"
    by_name = {(each["metric"], each["subset"]): each for each in content["differences"]}
    fvu, unknown = by_name["fvu", ""], by_name["fvu", "news"]
    assert fvu["difference"] == pytest.approx(fvu["b"]["value"] - fvu["a"]["value"])
    assert fvu["ci_low"] < fvu["difference"] < fvu["ci_high"] < 0
    assert (fvu["verdict"], fvu["higher_is_better"], fvu["primary"], fvu["n"]) == ("better", False, True, 20)
    assert (by_name["l0", ""]["verdict"], by_name["l0", ""]["difference"]) == (None, 0.0)
    assert (unknown["p"], unknown["verdict"]) == (None, "undecided")
    assert content["tests"] == 3
    assert content["not_compared"] == []


def test_markdown(invoke: Invoke, root: Path):
    output = invoke("compare", "plain-s0", "zoo:sharp-s0", "--results", root, "--format", "md").stdout
    table = [line for line in output.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + 3


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(invoke: Invoke, root: Path, tmp_path: Path, suffix: str):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot.{suffix}"
    result = invoke("compare", "plain-s0", "zoo:sharp-s0", "--results", root, "--plot", path)
    assert result.exit_code == 0, result.output
    assert path.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


def test_nothing_to_draw(invoke: Invoke, root: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    result = invoke(
        "compare", "plain-s0", "zoo:sharp-s0", "--results", root, "--metric", "l0", "--plot", tmp_path / "p.svg"
    )
    assert result.exit_code == 2
    assert "nothing to draw" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plain-s0", "zoo:sharp-s1"], "Did you mean 'zoo:sharp-s0'?"),
        (["plain-s0", "sharp-s0"], "means several SAEs: sae_lens:some/folder/sharp-s0, zoo:sharp-s0"),
        (["plain-s0", "twice"], "with different weights or settings"),
        (["plain-s0", "seeds"], "seeds 0, 1; choose one with --seed"),
        (["plain-s0", "other-version"], f"versions of the task core differ: {VERSION} and 9"),
        (["plain-s0", "broken"], "B: failed: weights hold NaN"),
        (["plain-s0", "zoo:sharp-s0", "--metric", "fvuu"], "Did you mean 'fvu'?"),
        (["plain-s0", "zoo:sharp-s0", "--task", "cor"], "Did you mean 'core'?"),
        (["plain-s0", "zoo:sharp-s0", "--preset", "paper"], "preset quick, not 'paper'"),
        (["plain-s0", "zoo:sharp-s0", "--plot", "plot.txt"], "must end in .png, .svg, .pdf"),
        (["plain-s0", "zoo:sharp-s0", "--results", "nowhere"], "No results at nowhere"),
    ],
)
def test_what_is_not_possible(invoke: Invoke, root: Path, arguments: list[str], message: str):
    result = invoke("compare", *arguments, "--results", root)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_empty_folder(invoke: Invoke, tmp_path: Path):
    result = invoke("compare", "a", "b", "--results", tmp_path)
    assert result.exit_code == 2
    assert "There are no records" in result.stderr


@pytest.mark.parametrize("name", ["plain-s0", "zoo:plain-s0", "RECORD", "RECORD[:8]"])
@pytest.mark.parametrize("other", ["some/folder/sharp-s0", "sae_lens:some/folder/sharp-s0", PRINT[:12], "trio"])
def test_names(invoke: Invoke, root: Path, name: str, other: str):
    record = next(path.stem for path in root.rglob("*plain-s0*/core/*.json"))
    name = {"RECORD": record, "RECORD[:8]": record[:8]}.get(name, name)
    content = json.loads(invoke("compare", name, other, "--results", root, "--format", "json").stdout)
    assert content["a"]["sae"] == "zoo:plain-s0"
    expected = {PRINT[:12]: "zoo:twice", "trio": "trio=zoo:a,zoo:b"}
    assert content["b"]["sae"] == expected.get(other, "sae_lens:some/folder/sharp-s0")


def test_seeds_are_chosen(invoke: Invoke, root: Path):
    result = invoke("compare", "plain-s0", "seeds", "--seed", "0", "--results", root)
    assert result.exit_code == 0, result.output


def test_several_folders_are_joined(invoke: Invoke, tmp_path: Path):
    write(tmp_path / "one", "zoo:a")
    write(tmp_path / "two", "zoo:b", 0.1)
    both = ["compare", "a", "b", "--results", tmp_path / "one"]
    assert invoke(*both).exit_code == 2
    assert "better" in invoke(*both, "--results", tmp_path / "two").stdout


def test_a_single_record_file_can_be_given(invoke: Invoke, root: Path, tmp_path: Path):
    record = write(tmp_path, "zoo:new", 0.1)
    path = next(tmp_path.rglob(f"{record}.json"))
    assert "better" in invoke("compare", "plain-s0", "new", "--results", root, "--results", path).stdout


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_left_out(invoke: Invoke, tmp_path: Path, damage: str):
    write(tmp_path, "zoo:a")
    write(tmp_path, "zoo:b", 0.1)
    write(tmp_path, "zoo:a", task="dark_matter")
    record = write(tmp_path, "zoo:b", task="dark_matter")
    [path] = tmp_path.rglob(f"{record}.npz")
    DAMAGES[damage](path)
    result = invoke("compare", "a", "b", "--all", "--results", tmp_path)
    assert result.exit_code == 0, result.output
    assert "better" in rows(result.stdout)["fvu"]  # of the task core
    assert result.stdout.count("is damaged") == 1
    text = " ".join(result.stdout.split())
    assert f"dark_matter: B: The record {record} is damaged: its arrays in" in text
    assert path.name in text
    assert "makes the record again." in text
    excluded = json.loads(invoke("compare", "a", "b", "--results", tmp_path, "--format", "json").stdout)["not_compared"]
    assert [(each["task"], path.name in each["reason"]) for each in excluded] == [("dark_matter", True)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_only_a_damaged_record(invoke: Invoke, tmp_path: Path, damage: str):
    write(tmp_path, "zoo:a")
    record = write(tmp_path, "zoo:b", 0.1)
    [path] = tmp_path.rglob(f"{record}.npz")
    DAMAGES[damage](path)
    for arguments, side in ((("a", "b"), "B"), (("b", "a"), "A")):
        result = invoke("compare", *arguments, "--results", tmp_path)
        assert result.exit_code == 2, result.output
        assert f"Nothing can be compared. core: {side}: The record {record} is damaged" in result.stderr


def test_an_older_copy_counts_where_the_newest_is_damaged(invoke: Invoke, tmp_path: Path):
    write(tmp_path, "zoo:a")
    write(tmp_path, "zoo:b", 0.1)
    newest = write(tmp_path, "zoo:b", 0.1, device_class="cuda")
    [path] = tmp_path.rglob(f"{newest}.json")
    path.write_text(path.read_text().replace("2026-01-02", "2026-01-03"))
    DAMAGES["one bit"](path.with_suffix(".npz"))
    result = invoke("compare", "a", "b", "--results", tmp_path)
    assert result.exit_code == 0, result.output
    assert "better" in rows(result.stdout)["fvu"]
