from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from saebench import atomic
from saebench.errors import SaebenchError, UsageError
from saebench.results import store as store_module
from saebench.results.identity import record_id
from saebench.results.record import SCHEMA_VERSION, Status
from saebench.results.record_arrays import checksum
from saebench.results.store import ResultStore, needed, read_record, writable_or_raise
from tests.results.conftest import VERSION

ARRAYS = {
    "fvu.num": np.array([1.0, 2.0, 3.0]),
    "fvu.den": np.array([10.0, 10.0, 10.0]),
    "density": np.linspace(0, 1, 7, dtype=np.float32),
}


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@pytest.fixture
def scored(record, number):
    made = record(measurements=[number("fvu", 0.2, 0.1, 0.3, contributions="fvu"), number("l0", 32.0)])
    return made.model_copy(update={"arrays_sha256": checksum(ARRAYS)})


def files(store: ResultStore) -> list[str]:
    return sorted(path.name for path in store.root.rglob("*") if path.is_file())


def test_a_record_comes_back_as_written(store, scored):
    path = store.write(scored, ARRAYS)
    assert store.find(scored.identity) == scored
    assert store.read(scored.record_id) == scored
    assert list(store) == [scored]
    assert read_record(path) == scored
    found = store.arrays(scored)
    assert found.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(found[key], array, strict=True)


def test_the_path_is_predictable(store, scored):
    path = store.write(scored, ARRAYS)
    assert path == store.path(scored)
    model, hook, sae, task, name = path.relative_to(store.root).parts
    assert model.startswith("asset-gemma-3-270m~")
    assert hook == "blocks.9.hook_resid_post"
    assert sae.startswith("zoo-topk-k32-s0~")
    assert task == "core"
    assert name == f"{record_id(scored.identity)}.json"
    assert files(store) == [name, name.replace(".json", ".npz")]


def test_an_empty_or_absent_store_has_no_records(store, scored):
    assert list(store) == []
    assert store.find(scored.identity) is None
    assert store.read(scored.record_id) is None
    assert store.read("../../etc/passwd") is None


def test_arrays_are_found_from_a_part_of_the_store(store, scored):
    path = store.write(scored, ARRAYS)
    assert ResultStore(path.parent).arrays(scored).keys() == ARRAYS.keys()


# Not scored


@pytest.mark.parametrize(
    ("value", "reason"), [(float("nan"), "the value is nan"), (float("inf"), "the value is inf"), (None, "no value")]
)
def test_a_number_without_value_is_null_with_a_reason(store, record, number, value, reason):
    path = store.write(record(measurements=[number("fvu", value, float("nan"), float("inf"))]))
    text = path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (measurement,) = json.loads(text)["measurements"]
    assert measurement["value"] is None
    assert not {"ci_low", "ci_high"} & set(measurement)  # what is null is left out, but for the value
    assert measurement["not_scored"] == reason


def test_the_tasks_own_reason_stays(store, record, number):
    path = store.write(record(measurements=[number("fvu", float("nan"), not_scored="no variance")]))
    assert json.loads(path.read_text())["measurements"][0]["not_scored"] == "no variance"


def test_nan_in_notes_is_null(store, record):
    written = record()
    written.sae.notes["x"] = {"y": [1.0, float("nan")]}
    assert json.loads(store.write(written).read_text())["sae"]["notes"] == {"x": {"y": [1.0, None]}}


# What is refused


def test_an_id_that_does_not_fit_is_refused(store, scored):
    with pytest.raises(SaebenchError, match="cannot be stored: its id is 0000000000000000, but its identity gives"):
        store.write(scored.model_copy(update={"record_id": "0" * 16}), ARRAYS)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"fvu.num": np.ones(3)},
        {"fvu.num": np.ones(3), "fvu.den": np.ones(4)},
        {"fvu.num": np.ones((3, 1)), "fvu.den": np.ones((3, 1))},
    ],
)
def test_missing_or_unequal_contributions_are_refused(store, scored, arrays):
    with pytest.raises(SaebenchError, match="'fvu'"):
        store.write(scored, arrays)
    assert not store.root.exists()


def test_python_objects_are_refused(store, record):
    with pytest.raises(SaebenchError, match="'x'"):
        store.write(record(), {"x": np.array([object()])})


# Crashes


@pytest.mark.parametrize("crash_at", [".npz", ".json"])
def test_a_crash_while_writing_leaves_no_half_record(store, scored, monkeypatch, crash_at):
    replace = os.replace

    def crash(source, target):
        if str(target).endswith(crash_at):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        store.write(scored, ARRAYS)
    assert store.find(scored.identity) is None
    assert list(store) == []
    assert not [name for name in files(store) if not name.endswith(".npz")]
    monkeypatch.undo()
    store.write(scored, ARRAYS)
    assert store.find(scored.identity) == scored


def test_a_crash_while_overwriting_keeps_the_old_record(store, scored, monkeypatch):
    store.write(scored, ARRAYS)

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.write(scored.model_copy(update={"preset": "other"}), ARRAYS)
    assert store.find(scored.identity) == scored
    assert store.arrays(scored).keys() == ARRAYS.keys()


def test_kill_in_the_middle_of_the_json(store, scored, tmp_path):
    """A process killed with SIGKILL leaves at most a temporary file, which is ignored, and cleaned by the next."""
    source = tmp_path / "record.json"
    source.write_text(scored.model_dump_json())
    code = """
import os, signal, sys
from pathlib import Path
import numpy as np
from saebench import atomic
from saebench.results.record import Record
from saebench.results.store import ResultStore
replace = os.replace
def killed(source, target):
    if str(target).endswith(".json"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
atomic.os.replace = killed
record = Record.model_validate_json(Path(sys.argv[2]).read_bytes())
ResultStore(sys.argv[1]).write(record, {"fvu.num": np.ones(3), "fvu.den": np.ones(3)})
"""
    done = subprocess.run([sys.executable, "-c", code, str(store.root), str(source)], check=False)
    assert done.returncode == -9
    assert store.path(scored).with_suffix(".npz").exists()
    (temp,) = store.root.rglob(".tmp-*")
    assert list(store) == []
    store.write(scored, ARRAYS)
    assert not temp.exists()
    assert list(store) == [scored]


# Damage


@pytest.mark.parametrize("keep", [0, 1, 50, 400])
def test_a_truncated_file_is_warned_about_and_missing(store, scored, identity, record, keep):
    path = store.write(scored, ARRAYS)
    other = record(identity(seed=1), status=Status.FAILED, error="e")
    store.write(other)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.warns(UserWarning, match=path.name):
        assert store.find(scored.identity) is None
    with pytest.warns(UserWarning, match=path.name):
        assert list(store) == [other]
    with pytest.warns(UserWarning, match=path.name):
        assert store.read(scored.record_id) is None
    store.write(scored, ARRAYS)
    assert store.find(scored.identity) == scored


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"seed": 0', '"seed": 1', "but its identity gives"),
        (f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 99', "newer saebench .its schema version is 99"),
        ('"status": "ok"', '"status": "great"', "status"),
        ('"status": "ok"', '"status": "ok", "extra": 1', "written by a newer saebench .*the field extra is unknown"),
    ],
)
def test_an_edited_or_foreign_file_is_warned_about(store, scored, old, new, reason):
    path = store.write(scored, ARRAYS)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.warns(UserWarning, match=reason):
        assert store.find(scored.identity) is None


def test_other_files_are_no_records(store, scored, recwarn):
    path = store.write(scored, ARRAYS)
    (path.parent / "notes.json").write_text("{")
    (path.parent / ".tmp-123").write_text("{")
    assert list(store) == [scored]
    assert not recwarn.list


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"nonsense"])
def test_damaged_arrays_are_an_error_naming_the_file(store, scored, content):
    path = store.write(scored, ARRAYS).with_suffix(".npz")
    path.write_bytes(content)
    with pytest.raises(SaebenchError, match=path.name):
        store.arrays(scored)


def test_missing_arrays(store, scored, record, identity):
    store.write(scored, ARRAYS).with_suffix(".npz").unlink()
    with pytest.raises(SaebenchError, match="missing"):
        store.arrays(scored)
    plain = record(identity(seed=1))
    store.write(plain)
    assert store.arrays(plain) == {}


def test_a_failed_record_has_no_arrays_even_over_an_old_one(store, scored, record):
    store.write(scored, ARRAYS)
    failed = record(status=Status.FAILED, error="out of memory")
    store.write(failed)
    assert store.find(failed.identity) == failed
    assert store.arrays(failed) == {}


# Superseded failures


@pytest.mark.parametrize(
    "unknown", [{"sae_fingerprint": ""}, {"sae_fingerprint": "", "model_fingerprint": "", "data": {}}]
)
def test_a_failure_that_knew_less_is_replaced(store, scored, record, identity, unknown):
    store.write(record(identity(**unknown), status=Status.FAILED, error="truncated", hook=""))
    store.write(scored, ARRAYS)
    assert list(store) == [scored]


@pytest.mark.parametrize(
    "difference", [{"seed": 1}, {"sae_fingerprint": "99"}, {"dtype": "float32"}, {"task_version": VERSION + 1}]
)
def test_failures_of_other_requests_stay(store, scored, record, identity, difference):
    failed = record(identity(**difference), status=Status.FAILED, error="truncated", hook="")
    store.write(failed)
    store.write(scored, ARRAYS)
    assert {r.record_id for r in store} == {failed.record_id, scored.record_id}


def test_a_good_record_is_never_removed_by_a_failure(store, scored, record, identity):
    store.write(scored, ARRAYS)
    store.write(record(identity(sae_fingerprint=""), status=Status.FAILED, error="truncated", hook=""))
    assert store.find(scored.identity) == scored


# Policy and preflight


@pytest.mark.parametrize(
    ("policy", "none", "ok", "failed", "not_applicable"),
    [
        ("missing", True, False, False, False),
        ("failed", True, False, True, False),
        ("always", True, True, True, True),
    ],
)
def test_overwrite_policy(record, policy, none, ok, failed, not_applicable):
    assert needed(None, policy) is none
    assert needed(record(), policy) is ok
    assert needed(record(status=Status.FAILED), policy) is failed
    assert needed(record(status=Status.NOT_APPLICABLE), policy) is not_applicable


def test_writable_creates_the_folder_and_leaves_nothing(tmp_path):
    root = tmp_path / "a" / "b"
    writable_or_raise(root)
    assert list(root.iterdir()) == []


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"Cannot write results into .*file"):
        writable_or_raise(tmp_path / "file")
    with pytest.raises(UsageError, match="choose another folder"):
        writable_or_raise(tmp_path / "file" / "below")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        writable_or_raise(tmp_path)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(UsageError, match="Only 1 MB are free"):
        writable_or_raise(tmp_path)
