"""A reader of JSON Lines files. Whatever is wrong with a line, the error names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebench.errors import DataError, did_you_mean

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "a truth value",
    type(None): "null",
}


@dataclass(frozen=True)
class JsonRow:
    """The JSON object on one line of a file, with the file and the line."""

    fields: dict[str, Any]
    where: str  # the file and the line as messages name them, such as "texts.jsonl, line 3"

    def value(self, name: str, hint: str = "") -> Any:
        """Return the value of a field. Raises DataError, which ends with ``hint``, if the field is missing."""
        if name not in self.fields:
            message = f"{self.where}: the field {name!r} is missing.{did_you_mean(name, self.fields)} {hint}"
            raise DataError(message.rstrip())
        return self.fields[name]

    def text(self, name: str, hint: str = "") -> str:
        """Return the value of a field that must be a text.

        Args:
            name: The name of the field.
            hint: A sentence to add to the message if the field is missing.

        Raises:
            DataError: The field is missing, is not a text, or cannot be written as UTF-8.
        """
        value = self.value(name, hint)
        if not isinstance(value, str):
            raise DataError(f"{self.where}: the field {name!r} must be a text, not {_KINDS[type(value)]}.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.where}: the field {name!r} holds half a surrogate pair, which is not text."
            ) from error
        return value


def read_json_lines(path: Path) -> Iterator[JsonRow]:
    """Yield the object on each line of a file in UTF-8. Lines of white space only are skipped.

    Raises:
        DataError: The file cannot be read, or a line is not UTF-8, is not JSON, or holds something else than an object.
    """
    try:
        with path.open("rb") as lines:  # as bytes, so that the line of a decoding error is known
            for number, line in enumerate(lines, start=1):
                where = f"{path}, line {number}"
                text = _decoded(line, where)
                if text.strip():
                    yield JsonRow(_object(text, where), where)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} is not UTF-8; convert the file to UTF-8.") from error


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: this is not valid JSON ({error.msg}, column {error.colno}).") from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
        raise DataError(f"{where}: this JSON cannot be used ({error}).") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: each line must hold a JSON object, but this one holds {_KINDS[type(value)]}.")
    return value
