"""CSV that a spreadsheet can open safely, and that reads back exactly.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula. Such a cell, and one that begins
with a tab, a line break or an apostrophe, gets an apostrophe in front of it; `read` takes it away again. Numbers, also
with their interval, stay as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

import pandas as pd

from saebench.safe_text import NUMBERS

# Some programs also read the full-width signs, and skip blanks and invisible characters before a sign.
_FORMULA = re.compile(r"'|[\t\r\n]|[^!-~\w]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_QUOTED = re.compile(r'[,;"\r\n]|^\s|\s$')
_LONGEST_CELL = 2**31 - 1  # any: the files are our own


def write(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return CSV with a header and full numbers. Missing values are empty cells, dates are in the form of ISO 8601."""
    return "".join(f"{_line(map(_cell, row))}\n" for row in (header, *rows))


def read(text: str) -> list[dict[str, str]]:
    """Return the rows of what `write` returned, cell by column, as text without the apostrophes that it added.

    Raises ValueError for a row that has more or fewer cells than the header.
    """
    previous = csv.field_size_limit(_LONGEST_CELL)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    finally:
        csv.field_size_limit(previous)
    names = [_unguarded(name) for name in header]
    return [dict(zip(names, map(_unguarded, row), strict=True)) for row in rows]


def _line(cells: Iterable[str]) -> str:
    # The module `csv` leaves a lone carriage return without quotes, and then it ends the row.
    return ",".join('"{}"'.format(cell.replace('"', '""')) if _QUOTED.search(cell) else cell for cell in cells) or '""'


def _cell(value: object) -> str:
    if isinstance(value, str):
        text = value.encode("utf-8", "backslashreplace").decode()
        return f"'{text}" if _FORMULA.match(text) and not NUMBERS.fullmatch(text) else text
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%f%z")
    return repr(float(value)) if isinstance(value, float) else str(value)


def _unguarded(cell: str) -> str:
    return cell.removeprefix("'")
