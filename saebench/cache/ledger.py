"""The book-keeping of a bounded store: what it holds, how large that is, and what must go to make room."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Item = tuple[str, str]  # (series, name within the series)


class Use(NamedTuple):
    """The size and the last use of an item."""

    size: int  # bytes
    last: int  # nanoseconds since the epoch


class Ledger:
    """Records the sizes and last uses of items within ``limit`` bytes. The store itself keeps and deletes the items.

    Room for a series is made by dropping items of other series only. If a series that is larger than the store could
    drop its own shards, each would go just before it is read again; in this way the series keeps its first shards, and
    only the rest is computed again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._uses: dict[Item, Use] = {}

    def add(self, item: Item, size: int) -> None:
        """Record a new item of ``size`` bytes, used now."""
        self.drop([item])
        self._uses[item] = Use(size, time.time_ns())
        self.total += size

    def touch(self, item: Item) -> None:
        """Record that ``item`` is used now."""
        if item in self._uses:
            self._uses[item] = self._uses.pop(item)._replace(last=time.time_ns())

    def drop(self, items: Iterable[Item]) -> None:
        """Forget ``items``; those that are not known do no harm."""
        for item in items:
            gone = self._uses.pop(item, None)
            self.total -= gone.size if gone else 0

    def replace(self, uses: Mapping[Item, Use]) -> None:
        """Record that the store now holds the items of ``uses``. A later use that this ledger knows of still counts."""
        known = self._uses
        self._uses = {
            item: use._replace(last=max(use.last, known[item].last)) if item in known else use
            for item, use in uses.items()
        }
        self.total = sum(use.size for use in uses.values())

    def victims(self, series: str, size: int) -> list[Item] | None:
        """Return the items to drop for ``size`` more bytes of ``series``, the least recently used first.

        Returns None if dropping every item of the other series would not make enough room.
        """
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
