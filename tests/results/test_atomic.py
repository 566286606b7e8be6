"""Writing whole files: what killed writers leave, file systems that cannot sync, and too little memory."""

from __future__ import annotations

import errno
import lzma
import os
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saebench import atomic
from saebench.results import array_file
from saebench.results import store as store_module
from saebench.results.record_file import read_record_file
from saebench.results.store import ResultStore, writable_or_raise
from tests.results.conftest import make_number, make_record

ARRAYS = {"fvu.num": np.linspace(0.1, 0.9, 5), "fvu.den": np.ones(5)}
SCORED = make_record(measurements=[make_number("fvu", 0.5, contributions="fvu")])


# What killed writers leave


def name_of(process: int, system: str = "") -> str:
    """Return the name that a process of this system, or of another one, would give its file."""
    return f".tmp-{system or atomic.temporary_name().split('-')[1]}-{process}-{'0' * 31}{len(system) % 10}"


def dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def leave(folder: Path, name: str, hours: float = 0.0) -> Path:
    path = folder / name
    path.write_bytes(b"half")
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
    return path


def test_names_are_recognized():
    assert atomic.is_temporary(atomic.temporary_name())
    assert atomic.is_temporary(f".tmp-{'0' * 32}")
    for other in (".tmp-123", "tmp", f"{'0' * 16}.json", f".tmp-{'0' * 32}.json", f".tmp-{'0' * 31}\n"):
        assert not atomic.is_temporary(other)


def test_only_what_nobody_writes_any_more_is_removed(tmp_path: Path):
    dead = leave(tmp_path, name_of(dead_process()))
    old = leave(tmp_path, f".tmp-{'a' * 32}", hours=2)
    elsewhere_old = leave(tmp_path, name_of(1, "0" * 8), hours=2)
    kept = [
        leave(tmp_path, name_of(os.getpid())),
        leave(tmp_path, f".tmp-{'b' * 32}"),  # its writer may be alive on another machine
        leave(tmp_path, name_of(dead_process(), "0" * 8)),
        leave(tmp_path, ".tmp-notes", hours=200),  # nothing of ours
    ]
    atomic.remove_abandoned(tmp_path)
    assert not any(path.exists() for path in (dead, old, elsewhere_old))
    assert all(path.exists() for path in kept)


def test_a_number_that_another_process_was_given(tmp_path: Path):
    long_ago = leave(tmp_path, name_of(os.getpid()), hours=24 * 365)
    atomic.remove_abandoned(tmp_path)
    assert not long_ago.exists()


def test_a_living_writer_loses_nothing(tmp_path: Path):
    """While another process is in the middle of a write, every cleaning leaves its file alone."""
    code = """
import sys
from pathlib import Path
from saebench.atomic import write_atomic
def slow(file):
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    sys.stdin.readline()
    file.write(b" whole")
write_atomic(Path(sys.argv[1]), slow)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writer: Any = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "file")], **pipes)
    assert writer.stdout.readline() == "half\n"
    atomic.remove_abandoned(tmp_path)
    writable_or_raise(tmp_path)
    writer.communicate("\n", timeout=60)
    assert writer.returncode == 0
    assert (tmp_path / "file").read_bytes() == b"half whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_cleans_its_whole_folder_first(tmp_path: Path):
    path = ResultStore(tmp_path).write(SCORED, ARRAYS)
    left = [leave(folder, name_of(dead_process())) for folder in (tmp_path, path.parent, path.parents[2])]
    writable_or_raise(tmp_path)
    assert not any(one.exists() for one in left)
    assert read_record_file(path).record_id == SCORED.record_id


def test_a_file_of_somebody_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    left = leave(tmp_path, name_of(dead_process()))

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        atomic.remove_abandoned(tmp_path)
    assert left.exists()


# File systems that cannot sync


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("what", ["folders", "files and folders"])
def test_a_file_system_that_cannot_sync(code: int, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if what != "folders" or os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(atomic, "_warned", False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = ResultStore(tmp_path).write(SCORED, ARRAYS)
        ResultStore(tmp_path).write(SCORED, ARRAYS)
    [warning] = caught
    assert "cannot sync files to the disk" in str(warning.message)
    assert ResultStore(tmp_path).arrays(read_record_file(path)).keys() == ARRAYS.keys()


def test_a_folder_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = os.open

    def refuse(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(atomic, "_warned", False)
    with pytest.warns(UserWarning, match="cannot sync"):
        ResultStore(tmp_path).write(SCORED, ARRAYS)


def test_a_disk_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        ResultStore(tmp_path).write(SCORED, ARRAYS)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# Too little memory


def starve(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise MemoryError

    if "lzma" in kinds:
        monkeypatch.setattr(lzma, "LZMACompressor", refuse)
    if "zlib" in kinds:
        monkeypatch.setattr(zlib, "compressobj", refuse)
    if "stacks" in kinds:
        monkeypatch.setattr(np, "stack", refuse)


@pytest.mark.parametrize(
    ("kinds", "packing"),
    [
        ((), zipfile.ZIP_LZMA),
        (("lzma",), zipfile.ZIP_DEFLATED),
        (("lzma", "zlib"), zipfile.ZIP_STORED),
        (("lzma", "zlib", "stacks"), zipfile.ZIP_STORED),
    ],
)
def test_too_little_memory_to_pack(
    kinds: tuple[str, ...], packing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = ResultStore(tmp_path)
    with monkeypatch.context() as patch:
        starve(patch, *kinds)
        path = store.write(SCORED, ARRAYS)
    with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
        assert {member.compress_type for member in archive.infolist()} == {packing}
    found = store.arrays(read_record_file(path))
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(found[key], array, strict=True)


def test_memory_that_ends_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What was written before the memory ended is not left in the file."""
    real, calls = array_file._write, []

    def fail(file: Any, arrays: Any, packing: int) -> None:
        real(file, arrays, packing)
        calls.append(packing)
        if len(calls) < 3:
            raise MemoryError

    monkeypatch.setattr(array_file, "_write", fail)
    with (tmp_path / "file.npz").open("wb") as file:
        array_file.write_arrays(file, ARRAYS)
    assert calls == [zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]
    with np.load(tmp_path / "file.npz") as found:
        assert set(found.files) == set(ARRAYS)
    assert array_file.read_arrays(tmp_path / "file.npz").keys() == ARRAYS.keys()


def test_no_memory_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(store_module, "write_arrays", refuse)
    with pytest.raises(MemoryError):
        ResultStore(tmp_path).write(SCORED, ARRAYS)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
