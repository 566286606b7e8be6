"""Folders with bad files and several copies: every good record is read, and what is left out is named."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from saebench.errors import UsageError
from saebench.results import collection as module
from saebench.results import record_file
from saebench.results.array_file import DamagedRecordError
from saebench.results.collection import Collection
from saebench.results.record import Record, Status
from saebench.results.store import ResultStore
from tests.results.conftest import make_identity, make_number, make_record
from tests.results.damage import DAMAGES

EARLY = datetime(2026, 1, 1, tzinfo=UTC)
NUM = np.linspace(0.1, 0.9, 9)


def write(root: Path, value: float = 0.5, days: int = 0, **changes: object) -> Path:
    number = make_number("fvu", value, n=9, contributions="fvu")
    record = make_record(make_identity(**changes), measurements=[number], created=EARLY + timedelta(days=days))
    return ResultStore(root).write(record, {"fvu.num": NUM, "fvu.den": np.ones(9)})


def read(*roots: Path) -> tuple[Collection, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return Collection(roots), [str(warning.message) for warning in caught]


def measured(collection: Collection) -> tuple[Record, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record, arrays = collection.measured(collection.records[0])
        assert arrays["fvu.num"].tolist() == NUM.tolist()
        return record, [str(warning.message) for warning in caught]


def test_good_records_need_no_word(tmp_path: Path):
    write(tmp_path, seed=0)
    write(tmp_path, seed=1)
    found, told = read(tmp_path)
    assert {record.identity.seed for record in found.records} == {0, 1}
    assert told == []


def test_many_bad_files_are_counted(tmp_path: Path):
    write(tmp_path)
    for number in range(50):
        (tmp_path / f"{number:016x}.json").write_text("{" * number)
    found, told = read(tmp_path)
    assert len(found.records) == 1
    assert sum(line.startswith("Leaving out /") for line in told) == module.MOST_NAMED
    assert told[-2] == f"Leaving out {50 - module.MOST_NAMED} more files for such reasons."
    assert "`saebench run` with the same options makes them again" in told[-1]


def test_a_folder_and_a_part_of_it_are_read_once(tmp_path: Path):
    path = write(tmp_path)
    found, told = read(tmp_path, path.parent, path)
    assert len(found.records) == 1
    assert told == []


@pytest.mark.parametrize("name", ["none", "\0", "x" * 5_000, "a\nb"])
def test_a_path_that_does_not_exist(name: str, tmp_path: Path):
    with pytest.raises(UsageError, match="there is no such file or folder"):
        Collection([tmp_path / name])


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "open")
    write(tmp_path / "closed", seed=1)
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, told = read(tmp_path)
    assert [record.identity.seed for record in found.records] == [0]
    assert told[0] == f"Leaving out {tmp_path / 'closed'}: the folder cannot be read (Permission denied)."


def test_a_file_that_disappears_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, seed=0)
    gone = write(tmp_path, seed=1)
    listing = module.record_files

    def removed(path: Path) -> object:
        files = listing(path)
        gone.unlink(missing_ok=True)
        return files

    monkeypatch.setattr(module, "record_files", removed)
    found, told = read(tmp_path)
    assert [record.identity.seed for record in found.records] == [0]
    assert told == []


def test_the_newest_copy_counts(tmp_path: Path):
    write(tmp_path / "a", days=2)
    write(tmp_path / "b", days=1)
    for order in (("a", "b"), ("b", "a")):
        found, told = read(*(tmp_path / name for name in order))
        assert [record.provenance.created for record in found.records] == [EARLY + timedelta(days=2)]
        assert told == []


def test_copies_with_different_numbers_are_named(tmp_path: Path):
    newer = write(tmp_path / "a", 0.5, days=2)
    older = write(tmp_path / "b", 0.6, days=1)
    found, told = read(tmp_path / "a", tmp_path / "b")
    assert found.records[0].measurements[0].value == 0.5
    assert told[0] == f"Leaving out {older}: it differs from its copy {newer}, which counts."


def test_the_last_digits_do_not_matter(tmp_path: Path):
    write(tmp_path / "a", 0.5, days=2)
    write(tmp_path / "b", 0.50001, days=1)
    assert read(tmp_path / "a", tmp_path / "b")[1] == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_hides_no_older_one(damage: str, tmp_path: Path):
    newer = write(tmp_path / "a", days=2)
    older = write(tmp_path / "b", days=1)
    DAMAGES[damage](newer.with_suffix(".npz"))
    found, _ = read(tmp_path / "a", tmp_path / "b")
    record, told = measured(found)
    assert record.provenance.created == EARLY + timedelta(days=1)
    assert f"--out {tmp_path / 'a'} --overwrite always" in told[0]
    assert "makes the record again" in told[0]
    assert told[0].endswith(f"Its copy {older} is used instead.")
    assert measured(found) == (record, [])  # told once


def test_all_copies_are_damaged(tmp_path: Path):
    for name, days in (("a", 2), ("b", 1)):
        DAMAGES["one bit"](write(tmp_path / name, days=days).with_suffix(".npz"))
    found, _ = read(tmp_path / "a", tmp_path / "b")
    with pytest.raises(DamagedRecordError, match="/a/"):
        found.measured(found.records[0])
    record, damage = found.measured_or_damage(found.records[0])
    assert isinstance(damage, DamagedRecordError)
    assert record == found.records[0]


def test_a_damaged_json_hides_no_older_copy(tmp_path: Path):
    newer, older = write(tmp_path / "a", days=2), write(tmp_path / "b", days=1)
    newer.write_text(newer.read_text()[:-30])
    found, told = read(tmp_path / "a", tmp_path / "b")
    assert [record.provenance.created for record in found.records] == [EARLY + timedelta(days=1)]
    assert str(newer) in told[0]
    assert older.exists()


def test_arrays_are_those_beside_the_json(tmp_path: Path):
    """Two copies in one folder: each is read with its own arrays, wherever it lies."""
    path = write(tmp_path / "a")
    copy = tmp_path / "a" / "0-copies" / path.name
    copy.parent.mkdir()
    content = json.loads(path.read_text()) | {"arrays_sha256": None}
    content["provenance"]["created"] = (EARLY + timedelta(days=3)).isoformat()
    copy.write_text(json.dumps(content))
    shutil.copy(path.with_suffix(".npz"), copy.with_suffix(".npz"))
    path.with_suffix(".npz").write_bytes(b"")
    record, told = measured(Collection([tmp_path / "a"]))
    assert record.provenance.created == EARLY + timedelta(days=3)
    assert told == []


def test_a_failed_record_has_no_arrays_to_damage(tmp_path: Path):
    ResultStore(tmp_path).write(make_record(status=Status.FAILED, error="e"))
    found, _ = read(tmp_path)
    assert found.measured(found.records[0]) == (found.records[0], {})


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, seed=0)
    closed, real = write(tmp_path, seed=1), record_file.read_regular

    def refuse(path: Path, limit: int) -> bytes:
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, limit)

    monkeypatch.setattr(record_file, "read_regular", refuse)
    found, told = read(tmp_path)
    assert [record.identity.seed for record in found.records] == [0]
    assert told[0] == f"Leaving out {closed}: Permission denied."
