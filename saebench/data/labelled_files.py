"""Prompts and targets from a file of rows. Whatever is wrong, the error names the file and the row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from saebench.data.tables import read_rows
from saebench.errors import DataError

COLUMNS = ("prompt", "target")

Row = tuple[str, str]  # a prompt and the name of its class


def read_labelled(path: Path, format: str) -> Iterator[Row]:
    """Yield the rows of a file. Other columns and fields are ignored.

    Args:
        path: The file.
        format: One of `saebench.data.tables.FORMATS`.

    Raises:
        DataError: The file cannot be read, a prompt is not a text, or a target names no class.
    """
    for row in read_rows(path, format, COLUMNS):
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
