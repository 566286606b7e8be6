"""What the SAEs of a sweep share, computed once: tensors kept in memory and on disk, each within its budget."""

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
    """Named tensors by content key and range of rows; for one thread, and any number of processes.

    ``memory`` and ``disk`` are bytes; ``folder`` None or ``disk`` 0 is memory alone. What lies on disk is mapped, and
    the system keeps its pages in memory as long as nothing else needs it; so memory of our own holds only what the
    disk does not. Whoever asks must be ready to
    compute: nothing is sure to be kept. Room is made where it was least recently used, but never from the series that
    asks for it (`saebench.cache.ledger`). ``log`` gets one sentence for each damaged file, and one if the disk
    refuses; neither ends the run.

    ``hits`` and ``misses`` count the reads that found their shard and those that did not.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        memory: int,
        disk: int,
        log: Callable[[str], None] = _warn,
    ) -> None:
        self.hits = 0
        self.misses = 0
        self._ledger = Ledger(memory)
        self._resident: dict[Item, dict[str, Tensor]] = {}
        self._disk = DiskTier(folder, disk, log) if folder is not None and disk > 0 else None

    @property
    def resident_bytes(self) -> int:
        """Memory taken by kept tensors; mapped files are not counted, the system takes their pages back at need."""
        return self._ledger.total

    def series(self, key: Mapping[str, str | int | float], rows: int, rows_per_shard: int) -> Series:
        """The quantity that ``key`` says everything about, ``rows`` rows in shards of ``rows_per_shard``.

        Raises TypeError for key values other than str, int and float, ValueError for NaN, infinities, and for
        ``rows`` or ``rows_per_shard`` below 1.
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
        # Copies: the caller may fill its buffer anew, and a view would keep all of a larger one alive.
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
    """One cached quantity, cut into ``shards``: ranges of rows in order, the last one possibly shorter."""

    def __init__(
        self, cache: TensorCache, key: Mapping[str, str | int | float], rows: int, rows_per_shard: int
    ) -> None:
        if rows < 1 or rows_per_shard < 1:
            raise ValueError(f"a series has at least one row, and one row per shard, not {rows} and {rows_per_shard}")
        self.shards = [slice(start, min(start + rows_per_shard, rows)) for start in range(0, rows, rows_per_shard)]
        self._cache = cache
        self._key = canonical_key(key, rows, rows_per_shard)
        self._name = series_name(self._key)

    def read(self, shard: slice) -> dict[str, Tensor] | None:
        """The tensors written for ``shard``, bit for bit, on the CPU; None: compute them, and `write` them.

        They are shared with the cache and with later reads: never write to them. Raises ValueError for a range
        that is not one of ``shards``.
        """
        return self._cache._read(self._shard(shard))

    def write(self, shard: slice, tensors: Mapping[str, Tensor]) -> None:
        """Keep a copy of ``tensors``, of any shapes and dtypes, as far as there is room. Errors as `read`."""
        self._cache._write(self._shard(shard), self._key, tensors)

    def _shard(self, rows: slice) -> Shard:
        if rows not in self.shards:
            raise ValueError(f"{rows} is not one of this series' {len(self.shards)} shards")
        return Shard(self._name, rows.start, rows.stop)


def _item(shard: Shard) -> Item:
    return shard.series, shard.prefix


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous on the CPU, no two in one storage, copied only where they are not so yet."""
    storages: set[int] = set()
    ready = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        ready[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return ready
