"""The check that the files of an asset are what its marker says, which costs little when it is repeated.

A file is hashed when it is first used. What identified it then is remembered in the process and beside the marker, in
``verified.json``, and the file is hashed again only if its size, times or inode are not the remembered ones. Damage
that changes none of them (a failing disk) is found by `saebench assets verify`, which hashes every file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from saebench.data.assets.marker import FileEntry, Marker
from saebench.errors import AssetError
from saebench.files import read_json
from saebench.progress import NullProgress, Progress, Ticker

VERIFIED = "verified.json"
BIG = 64 * 10**6  # the bytes to hash that are worth a message; they take about 0.2 seconds
# A file that changes twice within the resolution of its times may keep the times of the first change.
SETTLED_NS = 2 * 10**9

_CHUNK = 2**20
_warn = logging.getLogger(__name__).warning

Identity = dict[str, int | str]

# What identified the files that this process has hashed and found right, by path.
_known: dict[str, Identity] = {}


def damage(
    folder: Path,
    marker: Marker,
    names: Iterable[str],
    progress: Progress | None = None,
    *,
    trust: bool = True,
) -> dict[str, str]:
    """Return what is wrong with files of an asset, by their names.

    Args:
        folder: The asset's folder.
        marker: Its marker.
        names: The names of the files to check.
        progress: Receives the progress, and a message if many bytes must be hashed.
        trust: Whether a file that was hashed before and has not changed since counts as right.
    """
    remembered = _read(folder) if trust else {}
    problems, to_hash = {}, {}
    for name in dict.fromkeys(names):
        entry = marker.files.get(name)
        try:
            identity = None if entry is None else _identity(folder / name, entry)
        except (OSError, ValueError) as error:
            problems[name] = f"cannot be read ({getattr(error, 'strerror', None) or error})"
            continue
        if entry is None or identity is None:
            problems[name] = "is not recorded in asset.json" if entry is None else "is missing"
        elif identity["size"] != entry.size:
            problems[name] = f"has {identity['size']} bytes instead of {entry.size}"
        elif not trust or identity not in (remembered.get(name), _known.get(str(folder / name))):
            to_hash[name] = entry
    if to_hash:
        problems |= _hashed(folder, to_hash, remembered, progress, say=trust)
    return problems


def _hashed(
    folder: Path, entries: dict[str, FileEntry], remembered: dict[str, Any], progress: Progress | None, say: bool
) -> dict[str, str]:
    """Hash files, remember those that are right, and return what is wrong with the others."""
    total = sum(entry.size for entry in entries.values())
    log = progress.log if progress is not None else _warn
    big = say and total >= BIG
    if big:
        log(
            f"checking {folder.name} ({total / 1e6:,.0f} MB), because its files are new or have changed since they "
            "were last checked"
        )
    problems, found = {}, {}
    with (progress or NullProgress()).task(f"checking {folder.name}", total=total, unit="B") as ticker:
        for name, entry in entries.items():
            started = time.time_ns()
            try:
                identity = _identity(folder / name, entry)
                sha256 = _sha256(folder / name, ticker)
                changed = identity is None or identity != _identity(folder / name, entry)
            except OSError as error:
                problems[name] = f"cannot be read ({error.strerror or error})"
                continue
            if sha256 != entry.sha256 or identity is None:
                problems[name] = f"has changed: its sha256 is not {entry.sha256[:16]}…"
            elif not changed and all(abs(started - int(identity[t])) > SETTLED_NS for t in ("mtime_ns", "ctime_ns")):
                found[name] = identity
    _known.update({str(folder / name): identity for name, identity in found.items()})
    if found and not _write(folder, {**remembered, **found}) and big:
        log(f"{folder} cannot be written to, so every run will check {folder.name} again")
    return problems


def _identity(path: Path, entry: FileEntry) -> Identity | None:
    """Return what identifies a file and the hash it should have, or None if there is no file.

    Raises OSError if it is no regular file or cannot be reached.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is not a regular file")
    return {
        "sha256": entry.sha256,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "inode": status.st_ino,
    }


def _read(folder: Path) -> dict[str, Any]:
    """Return what is remembered beside the marker; nothing if it cannot be read, because it can be made again."""
    try:
        content = read_json(folder / VERIFIED, "memory", AssetError)
    except AssetError:
        return {}
    return content if isinstance(content, dict) else {}


def _write(folder: Path, identities: dict[str, Any]) -> bool:
    """Remember identities beside the marker, and return whether that is possible.

    The file is not replaced as a whole: if two processes write at once and spoil it, files are only hashed again.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(folder / VERIFIED, flags, 0o666), "w", encoding="utf-8") as file:
            json.dump(identities, file, indent=1)
    except OSError:
        return False
    return True


def _sha256(path: Path, ticker: Ticker) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            ticker.advance(len(chunk))
    return digest.hexdigest()
