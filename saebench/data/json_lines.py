"""A reader of JSON Lines files. Whatever is wrong with a line, the error names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saebench.data.rows import Row, kind_of
from saebench.data.source import read_lines
from saebench.errors import DataError
from saebench.files import storable_text


def read_json_lines(path: Path) -> Iterator[Row]:
    """Yield the object on each line of a file. Lines of white space only are skipped.

    The file may be packed, see `saebench.data.source`.

    Raises:
        DataError: The file cannot be read, or a line is not UTF-8, is not JSON, or holds something else than an object.
    """
    name = storable_text(str(path))
    for number, line in enumerate(read_lines(path), start=1):
        if line.isspace():  # a file may have millions of such lines
            continue
        where = f"{name}, line {number}"
        text = _decoded(line, where)
        if text.strip():
            yield Row(_object(text, where, path), where)


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} is not UTF-8; convert the file to UTF-8.") from error


def _object(text: str, where: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"({error.msg}, column {error.colno})"
        raise DataError(f"{where}: this is not valid JSON {reason}.{_hint(text, path)}") from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
        raise DataError(f"{where}: this JSON cannot be used ({error}).") from error
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: each line must hold a JSON object, but this one holds {kind_of(value)}.{_hint(text, path)}"
        )
    return value


def _hint(text: str, path: Path) -> str:
    """Return what the file may be instead, judged by one of its lines, and how to read that."""
    if "\0" in text:
        return " It holds zero bytes, as UTF-16 does; convert the file to UTF-8."
    if text.lstrip().startswith("["):
        return " If the file is one JSON list, write each of its items on a line of its own."
    if not text.lstrip().startswith("{"):
        return f" If the file is plain text, give 'txt:{storable_text(str(path))}'."
    return ""
