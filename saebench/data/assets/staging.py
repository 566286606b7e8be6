"""Where assets are made before they are moved into the cache, and the locks of the processes that make them."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from saebench.errors import AssetError
from saebench.progress import Progress

OLD = "old"  # the name in a staging folder of the asset that is being replaced


@contextmanager
def locked(root: Path, name: str, progress: Progress) -> Iterator[None]:
    """Hold the lock of an asset. Raises AssetError if the cache cannot be written to.

    Args:
        root: The folder of the cache.
        name: The asset.
        progress: Is told if another process holds the lock and this one must wait.
    """
    try:
        lock = _lock(root, name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.log(f"{name}: waiting for another process that is pulling it")
            lock.acquire()
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """Yield a new folder in which an asset is made. It is removed in the end, with all that dead processes have left.

    The caller holds the asset's lock, so any other staging folder of this asset was left by a process that was killed.
    An asset that such a process had moved aside is put back. Raises AssetError if the cache cannot be written to.
    """
    parent = _parent(root, name)
    # The name is random, so that a download that has outlived its parent process cannot write into this folder.
    folder = parent / uuid.uuid4().hex[:8]
    try:
        _put_back(parent, root / name)
        _remove(parent)
        remove_abandoned(root, but=name)
        folder.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        yield folder
    finally:
        _remove(parent)


def remove_abandoned(root: Path, but: str | None = None) -> None:
    """Remove the staging folders that no process works in. Raises OSError if the cache cannot be written to.

    Args:
        root: The folder of the cache.
        but: An asset whose folder stays, because the caller holds its lock.
    """
    for parent in (root / ".staging").glob("*"):
        if parent.name == but or not parent.is_dir():
            continue
        with suppress(Timeout), _lock(root, parent.name).acquire(timeout=0):
            _put_back(parent, root / parent.name)
            _remove(parent)


def put_in_place(built: Path, final: Path) -> None:
    """Move an asset from its staging folder to its place. Raises OSError if that is not possible."""
    # What is there already is first moved aside, because a folder that is not empty cannot be replaced.
    if os.path.lexists(final):
        os.replace(final, built.parent / OLD)
    os.replace(built, final)


def _put_back(parent: Path, final: Path) -> None:
    """Move an asset back that was moved aside by a process that was killed before it put the new one there."""
    for old in parent.glob(f"*/{OLD}"):
        if not os.path.lexists(final):
            os.replace(old, final)


def _parent(root: Path, name: str) -> Path:
    return root / ".staging" / name


def _lock(root: Path, name: str) -> FileLock:
    folder = root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def _remove(path: Path) -> None:
    """Remove a folder with what is in it, or a file. What cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _unwritable(root: Path, error: OSError) -> AssetError:
    return AssetError(f"Cannot write to the asset cache {root} ({error}); set SAEBENCH_HOME to a writable folder.")
