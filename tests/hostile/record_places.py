"""Hostile files, folders and copies in a folder of good records."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from tests.hostile.record_folder import ARRAYS, NO_ID, NOBODY, Hostile, content, put_record, with_id, write


def _instead(name: str, make: Callable[[Path], object], says: str = "") -> Hostile:
    """Something else than a regular file under the name of a record."""

    def put(root: Path) -> Path:
        path = write(root, b"")
        path.unlink()
        make(path)
        return path

    return Hostile(name, put, says=says)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 * 2**30)


def _full_folder(path: Path) -> None:
    path.mkdir()
    (path / f"{NO_ID}.json").write_text("{}")


def _beside(name: str, make: Callable[[Path], object]) -> Hostile:
    """A good record, and something strange in its folder."""

    def put(root: Path) -> Path:
        path = put_record(root, with_id(content(root)))
        make(path.parent)
        return path

    return Hostile(name, put, NOBODY)


def _loop(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "loop").symlink_to(folder)


def _deep(folder: Path) -> None:
    for _ in range(60):
        folder = folder / ("d" * 60)
    os.makedirs(folder)  # as long as a path may be


def _copy(name: str, change: Callable[[dict], object], noticed: str = NOBODY, damage: bool = False) -> Hostile:
    """A second copy of a record, newer by a day, in another folder."""

    def put(root: Path) -> Path:
        record = with_id(content(root))
        path = put_record(root, record)
        other = path.parent.parent / "copy" / path.name
        other.parent.mkdir()
        newer = json.loads(json.dumps(record))
        created = datetime.fromisoformat(newer["provenance"]["created"]) + timedelta(days=1)
        newer["provenance"]["created"] = created.isoformat()
        change(newer)
        other.write_text(json.dumps(newer))
        arrays = path.with_suffix(".npz").read_bytes()
        other.with_suffix(".npz").write_bytes(arrays[: len(arrays) // 2] if damage else arrays)
        return other

    return Hostile(name, put, noticed)


def _of_a_good_one(name: str, change: Callable[[Path], object]) -> Hostile:
    """A damaged copy of a good record, which must not hide it."""

    def put(root: Path) -> Path:
        good = next(path for path in sorted(root.rglob("*.json")) if '"ok"' in path.read_text())
        copy = root / "copies" / good.name
        copy.parent.mkdir()
        shutil.copy(good, copy)
        if good.with_suffix(".npz").exists():
            shutil.copy(good.with_suffix(".npz"), copy.with_suffix(".npz"))
        change(copy)
        return copy

    return Hostile(name, put)


def hostile() -> list[Hostile]:
    """Return all of them."""
    return [
        _instead("a folder", lambda path: path.mkdir(), "folder"),
        _instead("a full folder", _full_folder, "folder"),
        _instead("a pipe", os.mkfifo, "pipe"),
        _instead("a socket", lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "socket"),
        _instead("a device", lambda path: path.symlink_to("/dev/zero"), "device"),
        _instead("a link to itself", lambda path: path.symlink_to(path.name), "link"),
        _instead("a link to nothing", lambda path: path.symlink_to("nowhere"), "link"),
        _instead("a link to a folder", lambda path: path.symlink_to(path.parent.parent), "folder"),
        _instead("a link to a password file", lambda path: path.symlink_to("/etc/passwd")),
        _instead("3 GB of nothing", _sparse, "larger"),
        _beside("a loop of folders", _loop),
        _beside("a deep folder", _deep),
        _beside("what a killed run left", lambda folder: (folder / f".tmp-{'0' * 32}").write_bytes(b"{")),
        _beside("a name that is not UTF-8", lambda folder: (folder / "\udcff.json").write_bytes(b"{")),
        _beside("a name with ESC", lambda folder: (folder / "\x1b[31m.json").write_bytes(b"{")),
        _beside("a pipe of another name", lambda folder: os.mkfifo(folder / "notes.json")),
        _beside("a file of another name", lambda folder: (folder / "README.txt").write_text("x")),
        _beside("capitals", lambda folder: (folder / "ABCDEF0123456789.JSON").write_text("{")),
        _copy("a copy with other numbers", lambda record: record["measurements"][0].update(value=0.55), "json"),
        _copy("a copy that failed", lambda record: record.update(status="failed", error="x"), "json"),
        _copy("a copy with the same numbers", lambda record: record["provenance"].update(device="cuda:7")),
        _copy("a newer copy with damaged arrays", lambda record: None, ARRAYS, damage=True),
        _of_a_good_one("a broken copy of a good record", lambda path: path.write_text("{")),
        _of_a_good_one("a folder that copies a good record", lambda path: (path.unlink(), path.mkdir())),
    ]
