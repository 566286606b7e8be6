"""Rows of parallel sentences from a JSON Lines file. Whatever is wrong, the error names the file and the line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saebench.data.json_lines import read_json_lines
from saebench.errors import DataError, did_you_mean

SPLITS = ("train", "validation", "test")

_LANGUAGE = re.compile(r"[a-z]{2}")
_SPLIT_HINT = "Give 'train', 'validation' or 'test'."


@dataclass(frozen=True)
class Row:
    """One sentence in several languages."""

    split: str
    sentences: dict[str, str]  # by language
    where: str  # the row's file and line, or dataset and row, for messages


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield the rows of a file with one JSON object per line. Empty lines are skipped.

    A field is a language if its name is two lower-case letters other than ``id``. Fields that are neither a language
    nor the split are ignored.

    Raises:
        DataError: A line is not UTF-8 or not a JSON object, its split is missing or unknown, or a sentence is not text.
    """
    for row in read_json_lines(path):
        split = row.value("split", _SPLIT_HINT)
        if split not in SPLITS:
            raise DataError(
                f"{row.where}: there is no split {split!r}.{did_you_mean(str(split), SPLITS)} {_SPLIT_HINT}"
            )
        yield Row(split, {name: row.text(name) for name in row.fields if _is_language(name)}, row.where)


def _is_language(name: str) -> bool:
    return name != "id" and _LANGUAGE.fullmatch(name) is not None
