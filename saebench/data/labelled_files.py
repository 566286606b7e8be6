"""Prompts and targets from a CSV or JSON Lines file. Whatever is wrong, the error names the file and the line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from saebench.data.json_lines import read_json_lines
from saebench.errors import DataError, did_you_mean

COLUMNS = ("prompt", "target")

Row = tuple[str, str]  # a prompt and the name of its class


def read_csv(path: Path) -> Iterator[Row]:
    """Yield the rows of a comma-separated file, whose first line names the columns. Other columns are ignored.

    Raises:
        DataError: The file is not UTF-8 or not CSV, a column is missing, a row has too few or too many fields, or a
            target is empty or NaN.
    """
    # pandas is not used, because it fills rows that are too short and does not tell line numbers.
    reader = csv.reader(io.StringIO(_decoded(path), newline=""), strict=True)
    header: list[str] | None = None
    line = 1  # the line on which the row begins
    try:
        for row in reader:
            where, line = f"{path}, line {line}", reader.line_num + 1
            if not row:
                continue
            if header is None:
                header = [name.strip() for name in row]
                at = [_column(header, name, path) for name in COLUMNS]
            elif len(row) != len(header):
                raise DataError(
                    f"{where}: the row has {len(row)} fields, but the header has {len(header)}; put quotes around "
                    "texts that contain commas."
                )
            else:
                yield row[at[0]], class_name(row[at[1]], where)
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: this is not valid CSV ({error}); look for a quote that is never closed, or use JSON "
            "Lines."
        ) from error
    if header is None:
        raise DataError(f"{path} is empty; its first line must name the columns 'prompt' and 'target'.")


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield the rows of a file with one JSON object per line. Empty lines are skipped, other fields are ignored.

    Raises:
        DataError: A line is not UTF-8 or not a JSON object, its prompt is not a text, or its target names no class.
    """
    for row in read_json_lines(path):
        prompt, target = row.text("prompt"), row.value("target")
        yield prompt, class_name(row.text("target") if isinstance(target, str) else target, row.where)


def class_name(target: object, where: str) -> str:
    """Return the name of a target's class: its text without the space around it, and whole numbers without ``.0``.

    Args:
        target: The target of a row.
        where: The row, for the message.

    Raises:
        DataError: The target names no class, because it is empty, NaN, infinite, null, a list or an object.
    """
    if isinstance(target, float) and target.is_integer():
        target = int(target)
    name = str(target).strip() if isinstance(target, str | int | float) else ""
    if not name or name.lower() == "nan" or (isinstance(target, float) and math.isinf(target)):
        raise DataError(f"{where}: the target {target!r} names no class; every row needs a text or a number there.")
    return name


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: this is not UTF-8; convert the file to UTF-8.") from error


def _column(header: list[str], name: str, path: Path) -> int:
    match header.count(name):
        case 1:
            return header.index(name)
        case 0:
            raise DataError(
                f"{path} has no column {name!r}.{did_you_mean(name, header)} It needs 'prompt' and 'target'."
            )
        case n:
            raise DataError(f"{path} has {n} columns called {name!r}; keep one.")
