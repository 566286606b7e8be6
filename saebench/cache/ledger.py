"""What a bounded store holds, how large it is, and what has to leave for something new."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Item = tuple[str, str]  # (series, name within the series)


class Use(NamedTuple):
    size: int  # bytes
    last: int  # nanoseconds since the epoch


class Ledger:
    """Sizes and last uses of items within ``limit`` bytes. It counts alone; the store itself keeps and deletes.

    Series that do not fit together would drive each other's shards out in turn, and one that does not fit by itself
    its own shards, each just before it is read again. So room is made from other series only: a series
    larger than the store keeps its first shards and has the rest computed again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._uses: dict[Item, Use] = {}

    def add(self, item: Item, size: int) -> None:
        self.drop([item])
        self._uses[item] = Use(size, time.time_ns())
        self.total += size

    def touch(self, item: Item) -> None:
        if item in self._uses:
            self._uses[item] = self._uses.pop(item)._replace(last=time.time_ns())

    def drop(self, items: Iterable[Item]) -> None:
        for item in items:
            gone = self._uses.pop(item, None)
            self.total -= gone.size if gone else 0

    def replace(self, uses: Mapping[Item, Use]) -> None:
        """Take ``uses`` as what is there now; a later use that only this ledger saw still counts."""
        known = self._uses
        self._uses = {
            item: use._replace(last=max(use.last, known[item].last)) if item in known else use
            for item, use in uses.items()
        }
        self.total = sum(use.size for use in uses.values())

    def victims(self, series: str, size: int) -> list[Item] | None:
        """What must leave for ``size`` more bytes of ``series``, least recently used first; None: no room at all."""
        excess = self.total + size - self.limit
        leaving: list[Item] = []
        if excess <= 0:
            return leaving
        for item, use in sorted(self._uses.items(), key=lambda entry: entry[1].last):
            if item[0] != series:
                leaving.append(item)
                excess -= use.size
                if excess <= 0:
                    return leaving
        return None
