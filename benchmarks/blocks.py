"""Blocks of a page, ``<!-- KIND:NAME -->`` … ``<!-- /KIND -->``, that programs fill with tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from saebench.errors import UsageError, did_you_mean


def fill(page: str, kind: str, known: Iterable[str], table: Callable[[str], str]) -> str:
    """Return ``page`` with every block of a kind filled with ``table(NAME)``.

    Raises UsageError for a page without such a block, for one that is not closed, and for a name that is not ``known``.
    """
    block = re.compile(rf"(<!-- {kind}:(?P<name>\w+) -->\n).*?(<!-- /{kind} -->)", re.DOTALL)
    blocks = list(block.finditer(page))
    if not blocks or len(blocks) != page.count(f"<!-- {kind}:"):
        raise UsageError(
            f"A table begins with <!-- {kind}:NAME --> and is closed by <!-- /{kind} -->; one of them is missing."
        )
    for match in blocks:
        if match["name"] not in known:
            raise UsageError(f"There is no table {match['name']!r}.{did_you_mean(match['name'], known)}")
    return block.sub(lambda match: f"{match[1]}\n{table(match['name'])}\n\n{match[3]}", page)
