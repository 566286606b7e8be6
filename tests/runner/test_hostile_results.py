"""A folder of results in which others write, too: a run goes on, makes bad records again, and says what is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saebench import atomic
from saebench.results import store as store_module
from saebench.results.record import Status
from saebench.results.store import ResultStore
from saebench.runner.execute import RunSummary
from saebench.tasks.core.task import CoreTask
from tests.hostile import record_arrays, record_places, record_values
from tests.hostile.record_folder import ARRAYS, JSON, Hostile
from tests.results.damage import DAMAGES
from tests.runner.conftest import Inputs, Run, numbers

TEXTS = [one for one in record_values.texts() if one.noticed == JSON and "folder" not in one.name]
PLACES = [one for one in record_places.hostile() if one.name.startswith(("a ", "3 GB")) and "copy" not in one.name]
FILES = [one for one in record_arrays.hostile() if one.noticed == ARRAYS and " as arrays" in one.name]


def move(bad: Path, place: Path) -> None:
    """Put what is at ``bad`` in the place of a record or of its arrays, whatever it is."""
    place.unlink()
    os.rename(bad, place)


def record_of(summary: RunSummary) -> Path:
    [record] = summary.records
    return ResultStore(summary.out).path(record)


def check_made_again(run: Run, inputs: Inputs, first: RunSummary) -> None:
    second = run(inputs.topk(0))
    assert (second.new, second.count(Status.OK), second.lost) == (1, 1, [])
    assert numbers(second.records) == numbers(first.records) == numbers(ResultStore(first.out))
    assert ResultStore(first.out).arrays(second.records[0])
    third = run(inputs.topk(0))
    assert (third.new, third.lost) == (0, [])


@pytest.mark.parametrize("one", [*TEXTS, *PLACES], ids=lambda one: one.name)
@pytest.mark.filterwarnings("ignore")
def test_something_at_the_place_of_a_record(one: Hostile, run: Run, inputs: Inputs, tmp_path: Path):
    first = run(inputs.topk(0))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(first.out, elsewhere)
    move(one.put(elsewhere), record_of(first))
    check_made_again(run, inputs, first)


@pytest.mark.parametrize("one", FILES, ids=lambda one: one.name)
@pytest.mark.filterwarnings("ignore")
def test_something_at_the_place_of_arrays(one: Hostile, run: Run, inputs: Inputs, tmp_path: Path):
    first = run(inputs.topk(0))
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(first.out, elsewhere)
    place = record_of(first).with_suffix(".npz")
    place.unlink()
    bad = one.put(elsewhere).with_suffix(".npz")
    if bad.exists() or bad.is_symlink():
        os.rename(bad, place)
    check_made_again(run, inputs, first)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_arrays_are_made_again(damage: str, run: Run, inputs: Inputs):
    first = run(inputs.topk(0))
    DAMAGES[damage](record_of(first).with_suffix(".npz"))
    check_made_again(run, inputs, first)


def test_what_is_in_the_way_is_kept(run: Run, inputs: Inputs):
    first = run(inputs.topk(0))
    place = record_of(first)
    place.unlink()
    place.mkdir()
    (place / "thesis.tex").write_text("three years of work")
    with pytest.warns(UserWarning, match="was a folder, where a record belongs; it is now called not-a-record-"):
        check_made_again(run, inputs, first)
    [kept] = place.parent.glob("not-a-record-*/thesis.tex")
    assert kept.read_text() == "three years of work"


def test_a_rerun_that_fails_keeps_numbers_whose_arrays_are_damaged(
    run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
):
    first = run(inputs.topk(0))
    DAMAGES["one bit"](record_of(first).with_suffix(".npz"))

    def fail(*arguments: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(CoreTask, "run", fail)
    second = run(inputs.topk(0))
    assert second.count(Status.FAILED) == 1
    assert numbers(ResultStore(first.out)) == numbers(first.records)


# The folder disappears


def meddling(monkeypatch: pytest.MonkeyPatch, at: int, do: Callable[[], object]) -> None:
    """Let ``do`` happen when SAE number ``at`` is measured."""
    real, seen = CoreTask.run, []

    def measure(self: CoreTask, *arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == at:
            do()
        return real(self, *arguments)

    monkeypatch.setattr(CoreTask, "run", measure)


def test_a_folder_that_is_removed_during_the_run(
    run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saes = [inputs.topk(number) for number in range(3)]
    meddling(monkeypatch, 3, lambda: shutil.rmtree(tmp_path / "results"))
    summary = run(*saes)
    assert [record.identity.sae for record in summary.lost] == saes[:2]
    assert {record.identity.sae for record in ResultStore(summary.out)} == {saes[2]}
    again = run(*saes)
    assert (again.new, again.lost) == (2, [])


def test_a_record_that_is_removed_during_the_run(
    run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saes = [inputs.topk(number) for number in range(2)]
    meddling(monkeypatch, 2, lambda: [path.unlink() for path in (tmp_path / "results").rglob("*.json")])
    assert [record.identity.sae for record in run(*saes).lost] == saes[:1]


def test_a_folder_that_is_removed_during_a_write(
    run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, removed = store_module.write_atomic, []

    def write(path: Path, fill: Any) -> None:
        if not removed:
            removed.append(path)
            shutil.rmtree(tmp_path / "results")
        real(path, fill)

    monkeypatch.setattr(store_module, "write_atomic", write)
    summary = run(inputs.topk(0))
    assert (summary.count(Status.OK), summary.lost) == (1, [])
    assert numbers(ResultStore(summary.out)) == numbers(summary.records)


def test_a_failed_record_that_gave_way_is_not_lost(run: Run, inputs: Inputs):
    summary = run(inputs.factory("broken"), inputs.topk(0))
    assert (summary.count(Status.FAILED), summary.lost) == (1, [])


# Too little memory


def test_no_memory_to_write_a_record(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    """The numbers are not lost in silence, and the other SAEs are not lost at all."""
    saes = [inputs.topk(number) for number in range(3)]
    real, seen = store_module.write_arrays, []

    def write(file: Any, arrays: Any) -> None:
        seen.append(1)
        if len(seen) == 2:
            raise MemoryError
        real(file, arrays)

    monkeypatch.setattr(store_module, "write_arrays", write)
    summary = run(*saes)
    assert [record.status for record in summary.records] == [Status.OK, Status.FAILED, Status.OK]
    assert "not enough memory to write its record" in summary.records[1].error
    again = run(*saes, overwrite="failed")
    assert (again.new, again.count(Status.OK)) == (1, 3)


# What killed runs left


def test_a_run_with_nothing_to_do_cleans_up(run: Run, inputs: Inputs):
    first = run(inputs.topk(0))
    dead = record_of(first).with_name(atomic.temporary_name().replace(f"-{os.getpid()}-", "-999999999-"))
    alive = record_of(first).with_name(atomic.temporary_name())
    for path in (dead, alive):
        path.write_bytes(b"half")
    assert run(inputs.topk(0)).new == 0
    assert alive.exists()
    assert not dead.exists()
