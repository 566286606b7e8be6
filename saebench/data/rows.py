"""A row of a file with named fields: a line of JSON Lines, a record of CSV, or a row of a Parquet table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saebench.errors import DataError, did_you_mean
from saebench.files import is_text

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "a truth value",
    type(None): "null",
}


def kind_of(value: object) -> str:
    """Return what messages call a value, such as "a number"."""
    return _KINDS.get(type(value), f"of the type {type(value).__name__}")


@dataclass(frozen=True)
class Row:
    """The fields of one row, with the file and the place of the row in it."""

    fields: dict[str, Any]
    where: str  # the file and the place as messages name them, such as "texts.jsonl, line 3"

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
            raise DataError(f"{self.where}: the field {name!r} must be a text, not {kind_of(value)}.")
        if not is_text(value):
            raise DataError(f"{self.where}: the field {name!r} holds half a surrogate pair, which is not text.")
        return value
