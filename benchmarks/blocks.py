"""Blocks of a page, ``<!-- KIND:NAME -->`` … ``<!-- /KIND -->``, that programs fill with tables."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from saebench.errors import SaebenchError, UsageError, did_you_mean


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


def update(page: Path, render: Callable[[str], str], script: str, *, check: bool) -> int:
    """Write a page anew with what ``render`` makes of it, and return the exit code of the script.

    Args:
        page: The page.
        render: Returns the page with every block filled.
        script: The name of the script, for the message.
        check: Whether to write nothing, and to return 1 when the page is out of date.

    Returns:
        0; 1 for a page that is out of date, with ``check``; 2 where ``render`` raises SaebenchError, whose message is
        printed.
    """
    before = page.read_text(encoding="utf-8")
    try:
        after = render(before)
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    if after == before:
        return 0
    if check:
        print(f"out of date: {page.name}; run: .venv/bin/python scripts/{script}", file=sys.stderr)
        return 1
    page.write_text(after, encoding="utf-8")
    return 0
