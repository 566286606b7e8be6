"""A cache of tensors that the SAEs of a sweep share. It keeps them in memory and on disk, each within its budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from saebench.cache.disk import DiskTier, clear, usage
from saebench.cache.ledger import Item, Ledger
from saebench.cache.shards import Shard, canonical_key, series_name

__all__ = ["Series", "TensorCache", "clear", "usage"]

_warn = logging.getLogger(__name__).warning


class TensorCache:
    """Keeps named tensors under a key that describes their content and a range of rows.

    A process uses a cache from one thread; any number of processes may share the folder. The caller must be able to
    compute the tensors, because no tensor is sure to be kept: room is made by dropping what was used least recently,
    but never from the series that needs the room (see `saebench.cache.ledger`). Files on disk are mapped, and the
    operating system keeps their pages in memory while nothing else needs it, so this cache holds in its own memory
    only what is not on disk.

    ``hits`` counts the reads that found their shard, and ``misses`` those that did not.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        memory: int,
        disk: int,
        log: Callable[[str], None] = _warn,
    ) -> None:
        """Open a cache.

        Args:
            folder: The folder on disk, or None to keep tensors in memory only.
            memory: The bytes that tensors may take in memory.
            disk: The bytes that files may take; 0 to keep tensors in memory only.
            log: Receives one sentence for each damaged file, and one if the disk cannot be written to. Neither ends
                the run.
        """
        self.hits = 0
        self.misses = 0
        self._ledger = Ledger(memory)
        self._resident: dict[Item, dict[str, Tensor]] = {}
        self._disk = DiskTier(folder, disk, log) if folder is not None and disk > 0 else None

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory that kept tensors take, without mapped files, whose pages the system can take back."""
        return self._ledger.total

    def series(self, key: Mapping[str, str | int | float], rows: int, rows_per_shard: int) -> Series:
        """Return the series of one quantity.

        Args:
            key: Everything that the quantity depends on.
            rows: The number of rows.
            rows_per_shard: The number of rows of each shard but the last.

        Raises:
            TypeError: A value of the key is not a str, int or float.
            ValueError: A value of the key is NaN or infinite, or ``rows`` or ``rows_per_shard`` is below 1.
        """
        return Series(self, key, rows, rows_per_shard)

    def _read(self, shard: Shard) -> dict[str, Tensor] | None:
        item = _item(shard)
        if item in self._resident:
            self._ledger.touch(item)
            tensors: dict[str, Tensor] | None = dict(self._resident[item])
        else:
            tensors = self._disk.read(shard) if self._disk else None
        if tensors is None:
            self.misses += 1
        else:
            self.hits += 1
        return tensors

    def _write(self, shard: Shard, key: str, tensors: Mapping[str, Tensor]) -> None:
        self._forget([_item(shard)])
        if self._disk is None or not self._disk.write(shard, key, _storable(tensors)):
            self._keep(shard, tensors)

    def _keep(self, shard: Shard, tensors: Mapping[str, Tensor]) -> None:
        item = _item(shard)
        size = sum(tensor.nbytes for tensor in tensors.values())
        victims = self._ledger.victims(shard.series, size)
        if victims is None:
            return
        self._forget(victims)
        # Tensors are copied, because the caller may reuse its buffer, and a view would keep a larger tensor alive.
        self._resident[item] = {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        self._ledger.add(item, size)

    def _forget(self, items: list[Item]) -> None:
        self._ledger.drop(items)
        for item in items:
            self._resident.pop(item, None)


class Series:
    """One cached quantity. Its ``shards`` are ranges of rows in order, of which the last may be shorter."""

    def __init__(
        self, cache: TensorCache, key: Mapping[str, str | int | float], rows: int, rows_per_shard: int
    ) -> None:
        if rows < 1 or rows_per_shard < 1:
            raise ValueError(f"a series and its shards have at least one row each, not {rows} and {rows_per_shard}")
        self.shards = [slice(start, min(start + rows_per_shard, rows)) for start in range(0, rows, rows_per_shard)]
        self._cache = cache
        self._key = canonical_key(key, rows, rows_per_shard)
        self._name = series_name(self._key)

    def read(self, shard: slice) -> dict[str, Tensor] | None:
        """Return the tensors of ``shard`` on the CPU, exactly as they were written, or None if they are not kept.

        If they are not, the caller computes them and calls `write`. The tensors are shared with the cache and with
        later reads, so they must not be changed.

        Raises:
            ValueError: The range is not one of ``shards``.
        """
        return self._cache._read(self._shard(shard))

    def write(self, shard: slice, tensors: Mapping[str, Tensor]) -> None:
        """Keep a copy of ``tensors``, of any shapes and dtypes, if there is room.

        Raises:
            ValueError: The range is not one of ``shards``.
        """
        self._cache._write(self._shard(shard), self._key, tensors)

    def _shard(self, rows: slice) -> Shard:
        if rows not in self.shards:
            raise ValueError(f"{rows} is not one of the {len(self.shards)} shards of this series")
        return Shard(self._name, rows.start, rows.stop)


def _item(shard: Shard) -> Item:
    return shard.series, shard.prefix


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``tensors`` contiguous, on the CPU and each in its own storage, copying only those that are not."""
    storages: set[int] = set()
    ready = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        ready[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return ready
