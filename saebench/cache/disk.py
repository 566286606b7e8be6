"""A bounded folder of shards that several processes may use at the same time.

::

    folder/<sha256 of the key>/key.json                              tells people what the series is
    folder/<sha256 of the key>/<start>-<stop>-<checksum>.safetensors

Any file may vanish at any time, because another process has made room for its own.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from saebench.atomic import is_temporary, remove_abandoned
from saebench.cache.ledger import Item, Ledger, Use
from saebench.cache.shards import (
    KEY_FILE,
    SERIES_NAME,
    SHARD_NAME,
    DamagedShardError,
    Shard,
    read_shard,
    size_bound,
    write_key,
    write_shard,
)

_SCANS_PER_LIMIT = 8
_ATTEMPTS = 3


class DiskTier:
    """Keeps shards in a folder, within a limit of bytes.

    It looks at what other processes have written before its first write, and again whenever it has written an eighth
    of the limit itself. In between, each other process that writes at the same time can overshoot the limit by an
    eighth.
    """

    def __init__(self, folder: Path, limit: int, log: Callable[[str], None]) -> None:
        """Open the folder, which need not exist yet.

        Args:
            folder: Where the shards are.
            limit: The most bytes that shards and their keys may take.
            log: Receives one sentence for each damaged file, and one if the disk cannot be written to.
        """
        self._folder = folder
        self._log = log
        self._ledger = Ledger(limit)
        self._unseen: int | None = None  # bytes written since the last scan, or None before the first scan
        self._unwritable = False
        self._stuck: set[Path] = set()  # damaged files that could not be deleted

    def read(self, shard: Shard) -> dict[str, Tensor] | None:
        """Return the shard's tensors, or None if it is missing or damaged. A damaged file is logged and deleted."""
        for path in self._files(shard):
            try:
                tensors = read_shard(path, shard)
            except FileNotFoundError:
                continue
            except DamagedShardError as error:
                self._discard(path, str(error))
                continue
            self._ledger.touch((shard.series, path.name))
            return tensors
        return None

    def write(self, shard: Shard, key: str, tensors: dict[str, Tensor]) -> bool:
        """Keep ``tensors`` if there is room, and return whether the disk holds them.

        If the disk cannot be written to, this is logged once, and it is not tried again.
        """
        if self._unwritable:
            return False
        try:
            for _ in range(_ATTEMPTS):
                # Before the shard's file exists, another process may remove the folder because it is empty.
                with contextlib.suppress(FileNotFoundError):
                    return self._write(shard, key, tensors)
        except (OSError, SafetensorError) as error:
            self._unwritable = True
            self._log(
                f"The cache {self._folder} cannot be written to ({error}), so this run goes on without it and is "
                "slower; free some disk space or correct the folder's permissions before the next run."
            )
        return False

    def _write(self, shard: Shard, key: str, tensors: dict[str, Tensor]) -> bool:
        if self._files(shard):  # another process was faster
            return True
        if self._unseen is None or self._unseen > self._ledger.limit // _SCANS_PER_LIMIT:
            self._scan()
        key_size = len(key.encode())
        victims = self._ledger.victims(shard.series, size_bound(shard, tensors) + key_size)
        if victims is None:
            return False
        for item in victims:
            self._evict(item)
        folder = self._folder / shard.series
        folder.mkdir(parents=True, exist_ok=True)
        write_key(folder, key)
        path, size = write_shard(folder, shard, tensors)
        # The key is counted with each shard, which is simple and never counts too little.
        self._ledger.add((shard.series, path.name), size + key_size)
        self._unseen = (self._unseen or 0) + size
        return True

    def _files(self, shard: Shard) -> list[Path]:
        folder = self._folder / shard.series
        try:
            names = os.listdir(folder)
        except OSError:  # it does not exist or is not readable; if it is not writable either, the write reports it
            return []
        paths = (
            folder / name for name in sorted(names) if name.startswith(shard.prefix) and SHARD_NAME.fullmatch(name)
        )
        return [path for path in paths if path not in self._stuck]

    def _discard(self, path: Path, reason: str) -> None:
        try:
            path.unlink(missing_ok=True)
            outcome = "has been deleted"
        except OSError:
            self._stuck.add(path)
            outcome = "cannot be deleted and is ignored"
        self._ledger.drop([(path.parent.name, path.name)])
        self._log(f"The cached shard {path} was damaged ({reason}); it {outcome}, and its tensors are computed again.")

    def _evict(self, item: Item) -> None:
        folder = self._folder / item[0]
        (folder / item[1]).unlink(missing_ok=True)
        self._ledger.drop([item])
        _remove_if_empty(folder)

    def _scan(self) -> None:
        uses: dict[Item, Use] = {}
        for folder, files in _walk(self._folder):
            if any(map(is_temporary, files)):
                remove_abandoned(folder)
            key_size = files[KEY_FILE].st_size if KEY_FILE in files else 0
            for name, status in files.items():
                if SHARD_NAME.fullmatch(name):
                    uses[folder.name, name] = Use(status.st_size + key_size, status.st_mtime_ns)
        self._ledger.replace(uses)
        self._unseen = 0


def usage(folder: Path) -> tuple[int, int]:
    """Return the number of series that the cache in ``folder`` holds, and their size in bytes."""
    sizes = [sum(status.st_size for status in files.values()) for _, files in _walk(folder) if files]
    return len(sizes), sum(sizes)


def clear(folder: Path) -> int:
    """Delete what the cache has written into ``folder``, and nothing else. Return the number of bytes freed."""
    freed = 0
    for series, files in _walk(folder):
        for name, status in files.items():
            (series / name).unlink(missing_ok=True)
            freed += status.st_size
        _remove_if_empty(series)
    return freed


def _remove_if_empty(series: Path) -> None:
    """Remove a series' folder if it holds nothing but its key. A process that was about to write makes it again."""
    try:
        if set(os.listdir(series)) <= {KEY_FILE}:
            (series / KEY_FILE).unlink(missing_ok=True)
            series.rmdir()
    except OSError:  # the folder is gone, or in use again
        pass


def _walk(folder: Path) -> Iterator[tuple[Path, dict[str, os.stat_result]]]:
    """Yield each series' folder together with the regular files in it that the cache has written."""
    for series in _entries(folder):
        if SERIES_NAME.fullmatch(series.name) and series.is_dir(follow_symlinks=False):
            files = {}
            for entry in _entries(series.path):
                if not (entry.name == KEY_FILE or is_temporary(entry.name) or SHARD_NAME.fullmatch(entry.name)):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    files[entry.name] = status
            yield Path(series.path), files


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
