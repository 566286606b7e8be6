"""Filters, pivots and LaTeX of ``saebench table``, and ``saebench.results.load`` with the same filters."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from saebench.errors import UsageError
from saebench.results import load
from saebench.results.store import ResultStore
from tests.cli.conftest import Invoke
from tests.results.conftest import VERSION, make_identity, make_number, make_record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    store = ResultStore(root)
    for sae, seed in (("zoo:a", 0), ("zoo:a", 1), ("zoo:b_|_c", 0), ("zoo:frozen", 0)):
        numbers = [make_number("fvu", 0.1 + seed, 0.05, 2.0), make_number("l0", 32.0)]
        who = make_identity(sae=sae, seed=seed)
        store.write(make_record(who, measurements=numbers, control=sae == "zoo:frozen"))
    return root


def rows(invoke: Invoke, *arguments: object) -> list[dict[str, str]]:
    result = invoke("table", *arguments, "--format", "csv")
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(io.StringIO(result.stdout)))


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 8),
        (["--sae", "zoo:a"], 4),
        (["--sae", "zoo:*"], 8),
        (["--sae", "zoo:a", "--seed", "1"], 2),
        (["--sae", "zoo:a", "--sae", "zoo:b*", "--seed", "0", "--metric", "fvu"], 2),
        (["--no-controls"], 6),
        (["--task", "core", "--task", "co*"], 8),
        (["--model", "asset:*", "--hook", "blocks.9.*", "--preset", "quick", "--status", "ok", "--subset", ""], 8),
    ],
)
def test_filters(invoke: Invoke, folder: Path, arguments: list[str], count: int):
    assert len(rows(invoke, folder, *arguments)) == count


def test_wide_table_of_a_filter(invoke: Invoke, folder: Path):
    lines = invoke("table", folder, "--sae", "zoo:*", "--seed", "0", "--metric", "l*").stdout.splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["SAE", "l0"]
    assert len(lines) == 4 + 3
    assert "zoo:frozen (control)" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sae", "zoo:aa"], "Did you mean 'zoo:a'?"),
        (["--seed", "3"], "There are 0, 1."),
        (["--sae", "zoo:b*", "--seed", "1"], "of the results with sae 'zoo:b*', none has seed 1."),
        (["--pivot", "sae"], "ROWS/COLUMNS"),
        (["--pivot", "sae/metric"], "they differ in seed"),
        (["--pivot", "sae/metric", "--wide"], "leave out --wide"),
    ],
)
def test_what_cannot_be_shown(invoke: Invoke, folder: Path, arguments: list[str], message: str):
    result = invoke("table", folder, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_pivot(invoke: Invoke, folder: Path):
    table = rows(invoke, folder, "--pivot", "sae,seed/metric")
    assert list(table[0]) == ["sae", "seed", "fvu", "l0"]
    assert [(row["sae"], row["seed"], row["fvu"]) for row in table] == [
        ("zoo:a", "0", "0.1"),
        ("zoo:a", "1", "1.1"),
        ("zoo:b_|_c", "0", "0.1"),
        ("zoo:frozen", "0", "0.1"),
    ]
    objects = json.loads(invoke("table", folder, "--pivot", "sae,seed/metric", "--format", "json").stdout)
    assert [row["fvu"] for row in objects] == [float(row["fvu"]) for row in table]


def test_pivot_for_reading(invoke: Invoke, folder: Path):
    lines = invoke("table", folder, "--pivot", "sae/task,metric", "--seed", "0").stdout.splitlines()
    assert lines[0].split() == ["|", "sae", "|", "core/fvu", "|", "core/l0", "|"]
    assert lines[3].split() == ["|", "zoo:b\\_\\|\\_c", "|", "0.1", "|", "32", "|"]


def test_latex(invoke: Invoke, folder: Path):
    latex = invoke("table", folder, "--format", "latex").stdout
    assert latex.startswith(f"% core v{VERSION} · preset quick · ")
    assert r"zoo:b\_|\_c & " in latex
    assert latex.endswith("\\bottomrule\n\\end{tabular}\n")


def test_load(folder: Path):
    assert len(load(folder)) == 8
    found = load(str(folder), sae="zoo:a", seed=[0, 1], metric="fvu")
    assert sorted(found["value"]) == [0.1, 1.1]
    assert found["higher_is_better"].tolist() == [False, False]  # from the card
    assert len(load(folder, controls=False)) == 6


@pytest.mark.parametrize(
    ("filters", "message"),
    [({"saes": "zoo:a"}, "Did you mean 'sae'?"), ({"sae": "zoo:aa"}, "Did you mean 'zoo:a'?")],
)
def test_load_refuses(folder: Path, filters: dict[str, str], message: str):
    with pytest.raises(UsageError) as error:
        load(folder, **filters)
    assert message in str(error.value)


def test_load_is_found_only_when_asked_for():
    code = (
        "import saebench, sys; saebench.results; light = 'pandas' not in sys.modules; "
        "print(light, callable(saebench.results.load)); from saebench.results import load"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["True", "True"], result.stderr
