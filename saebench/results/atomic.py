"""Writing files so that they are there whole or not at all."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_TEMP_PREFIX = ".tmp-"
# A write takes seconds. Age, unlike a process id, also tells on a file system that several machines share.
_DEAD_AFTER_SECONDS = 3600.0


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it, then move it into place.

    Whatever goes wrong, ``path`` holds its old content (or does not exist), and never half of the new content.
    """
    temp = path.with_name(f"{_TEMP_PREFIX}{uuid.uuid4().hex}")
    try:
        with temp.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    _sync_folder(path.parent)


def remove_abandoned(folder: Path) -> None:
    """Delete temporary files that killed writers left in ``folder``."""
    for temp in folder.glob(f"{_TEMP_PREFIX}*"):
        try:
            if time.time() - temp.stat().st_mtime > _DEAD_AFTER_SECONDS:
                temp.unlink()
        except FileNotFoundError:  # its writer or another process that cleans up was faster
            continue


def _sync_folder(folder: Path) -> None:
    """Make the move itself survive a power cut. Windows cannot open folders and does not need it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
