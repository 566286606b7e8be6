"""A reader of comma-separated files. Whatever is wrong with a row, the error names the file and the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from saebench.data.rows import Row
from saebench.data.source import read_lines
from saebench.errors import DataError, did_you_mean
from saebench.files import storable_text


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the wanted fields of each row of a file whose first line names the columns. Empty lines are skipped.

    The file may be packed, see `saebench.data.source`.

    Raises:
        DataError: The file cannot be read, is not UTF-8 or not CSV, a column is missing or there twice, or a row has
            too few or too many fields.
    """
    # pandas is not used, because it fills rows that are too short and does not tell line numbers.
    name = storable_text(str(path))
    reader = csv.reader(_lines(path, name), strict=True)
    header: list[str] | None = None
    places: dict[str, int] = {}
    line = 1  # the line on which the row begins
    try:
        for row in reader:
            where, line = f"{name}, line {line}", reader.line_num + 1
            if not row:
                continue
            if header is None:
                header = [column.strip() for column in row]
                places = {column: _place(header, column, name, columns) for column in columns}
            elif len(row) != len(header):
                raise DataError(
                    f"{where}: the row has {len(row)} fields, but the header has {len(header)}; put quotes around "
                    "texts that contain commas."
                )
            else:
                yield Row({column: row[place] for column, place in places.items()}, where)
    except csv.Error as error:
        raise DataError(
            f"{name}, line {line}: this is not valid CSV ({error}); look for a quote that is never closed, or use JSON "
            "Lines."
        ) from error
    if header is None:
        raise DataError(f"{name} is empty; its first line must name the columns {_listed(columns)}.")


def _lines(path: Path, name: str) -> Iterator[str]:
    """Yield the lines of a file as the csv module wants them: also divided where an old Mac would."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}, line {number}: this is not UTF-8; convert the file to UTF-8.") from error
        if "\r" in text:
            yield from io.StringIO(text, newline="")
        else:
            yield text


def _place(header: list[str], column: str, name: str, columns: Sequence[str]) -> int:
    match header.count(column):
        case 1:
            return header.index(column)
        case 0:
            hint = did_you_mean(column, header)
            if len(header) == 1 and (found := next((mark for mark in ";\t|" if mark in header[0]), None)):
                hint = f" Its columns are separated by {found!r}; separate them by commas."
            raise DataError(f"{name} has no column {column!r}.{hint} It needs {_listed(columns)}.")
        case n:
            raise DataError(f"{name} has {n} columns called {column!r}; keep one.")


def _listed(columns: Sequence[str]) -> str:
    return " and ".join(map(repr, columns))
