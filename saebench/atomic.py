"""Writing files so that they are there whole or not at all."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import re
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import psutil

# Older versions wrote names without the system and the process.
_TEMPORARY = re.compile(r"\.tmp-(?:(?P<system>[0-9a-f]{8})-(?P<process>\d{1,9})-)?[0-9a-f]{32}")
# A write takes seconds. Age, unlike a process id, also tells on a file system that several machines share.
_DEAD_AFTER_SECONDS = 3600.0
# What file systems answer that cannot sync folders: some network disks, FUSE and overlays.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF}
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESS_NAMES = Path("/proc/self/ns/pid")
_CLOCK_STEP_SECONDS = 60.0


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it, then move it into place.

    Whatever goes wrong, ``path`` holds its old content (or does not exist), and never half of the new content. What
    killed writers left beside it is removed.

    Args:
        path: The file to write.
        write: Receives the open temporary file.
        sync: Whether the content survives a power cut as well. What can be made again in seconds need not.
    """
    remove_abandoned(path.parent)
    temp = path.with_name(temporary_name())
    try:
        with temp.open("xb") as file:
            write(file)
            file.flush()
            if sync:
                _sync(file.fileno(), path.parent)
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    if sync:
        _sync_folder(path.parent)


def write_output(path: Path, content: bytes) -> None:
    """Write to a file that the user names, which may also be a pipe or a device such as ``/dev/stdout``.

    Raises OSError for a pipe that nobody reads, where opening would wait for ever, and wherever else writing fails.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads this pipe", str(path)) from error
        raise
    os.set_blocking(descriptor, True)
    with open(descriptor, "wb") as file:
        file.write(content)


def temporary_name() -> str:
    """Return a new name for a file that this process will remove, and that `remove_abandoned` removes if it cannot."""
    return f".tmp-{_system()}-{os.getpid()}-{uuid.uuid4().hex}"


def is_temporary(name: str) -> bool:
    """Return whether `temporary_name` of any process made this name."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_abandoned(folder: Path) -> None:
    """Delete temporary files that killed writers left in ``folder``, and never one whose writer may be alive.

    A writer is dead if it ran on this system, where its process is gone, or if its file is older than an hour.
    """
    for temp in folder.glob(".tmp-*"):
        try:
            if _is_abandoned(temp):
                temp.unlink()
        except OSError:  # its writer or another process that cleans up was faster, or the file belongs to somebody else
            continue


def remove_abandoned_below(root: Path) -> None:
    """Do what `remove_abandoned` does in ``root`` and all folders below it. Links to folders are not followed."""
    for folder, _, names in os.walk(root):
        if any(map(is_temporary, names)):
            remove_abandoned(Path(folder))


def _is_abandoned(temp: Path) -> bool:
    name = _TEMPORARY.fullmatch(temp.name)
    if name is None:
        return False
    written = temp.lstat().st_mtime
    if name["system"] != _system():
        return time.time() - written > _DEAD_AFTER_SECONDS
    try:
        writer = psutil.Process(int(name["process"]))
        return writer.create_time() > written + _CLOCK_STEP_SECONDS  # another process was given the number
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:  # it is alive, and belongs to somebody else
        return False


@functools.cache
def _system() -> str:
    """Return eight hex digits that only processes share which see each other's ids: one boot of one machine."""
    try:
        # Each container has process ids of its own.
        boot = f"{_BOOT.read_text(encoding='utf-8').strip()} {os.readlink(_PROCESS_NAMES)}"
    except OSError:
        boot = str(psutil.boot_time())
    return hashlib.sha256(f"{platform.node()} {boot}".encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _sync_folder(folder: Path) -> None:
    """Make the move itself survive a power cut. Windows cannot open folders and does not need it."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        _warn_or_raise(error, folder)
        return
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)


def _sync(descriptor: int, folder: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        _warn_or_raise(error, folder)


def _warn_or_raise(error: OSError, folder: Path) -> None:
    """Warn once that a power cut may cost the newest files. Raise an error that means anything else."""
    if error.errno not in _CANNOT_SYNC:
        raise error
    _warn_once(error.strerror or str(error), folder)


_warned = False


def _warn_once(reason: str, folder: Path) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"The file system of {folder} cannot sync files to the disk ({reason}). Results are written all the same, "
            "but a power cut may cost the newest of them.",
            stacklevel=2,
        )
