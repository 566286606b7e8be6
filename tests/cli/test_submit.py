from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saebench.cards.registry import registry
from saebench.results.store import ResultStore
from tests.cli.conftest import Invoke
from tests.results.conftest import make_identity, make_number, make_record
from tests.results.damage import DAMAGES

PUBLISHED = Path(__file__).parents[2] / "results"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    card = registry().card("core")
    who = make_identity(task_version=card.version, parameters=card.resolve("quick"))
    ResultStore(tmp_path).write(make_record(who, measurements=[make_number("fvu", 0.1)]))
    return tmp_path


def test_all_is_well(invoke: Invoke, folder: Path):
    result = invoke("submit", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout == "1 record: nothing wrong\n"


def test_problems_are_told_by_file(invoke: Invoke, folder: Path):
    [path] = folder.rglob("*.json")
    path.write_text(
        path.read_text().replace('"value": 0.1', '"value": -1.0').replace('"git_dirty": null', '"git_dirty": true')
    )
    (folder / "notes.txt").write_text("hello")
    result = invoke("submit", folder)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        path.relative_to(folder).as_posix(),
        "  fvu is -1.0, outside the card's bounds [0, open]",
        "  warning: was made by a checkout with changes, so nobody can reproduce it",
        "notes.txt",
        "  is not a record: a record is a file whose name is its id (16 hex digits) with .json or .npz",
        "1 record: 2 errors, 1 warning",
    ]


def test_nothing_to_check(invoke: Invoke, tmp_path: Path):
    for folder, message in ((tmp_path, "There are no records in"), (tmp_path / "none", "There is no folder")):
        result = invoke("submit", folder)
        assert result.exit_code == 2
        assert message in result.stderr


def test_the_published_records_pass(invoke: Invoke):
    result = invoke("submit", PUBLISHED)
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stdout


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_arrays_are_an_error_of_that_file(invoke: Invoke, folder: Path, damage: str):
    card = registry().card("core")
    who = make_identity(task_version=card.version, parameters=card.resolve("quick"), seed=1)
    number = make_number("fvu", 0.1, n=20, contributions="fvu")
    arrays = {"fvu.num": np.full(20, 0.1), "fvu.den": np.ones(20)}
    path = ResultStore(folder).write(make_record(who, measurements=[number]), arrays).with_suffix(".npz")
    assert invoke("submit", folder).stdout == "2 records: nothing wrong\n"
    DAMAGES[damage](path)
    result = invoke("submit", folder)
    assert result.exit_code == 1, result.output
    name, problem, summary = result.stdout.splitlines()
    assert name in (path.relative_to(folder).as_posix(), path.with_suffix(".json").relative_to(folder).as_posix())
    assert problem.startswith("  ")
    assert "makes the record again" in problem
    assert summary == "2 records: 1 error"
