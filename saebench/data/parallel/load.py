"""Parallel sets, and how they are loaded from the references that name them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from saebench.data.documents import Documents
from saebench.data.parallel.flores import flores_rows, parse_flores
from saebench.data.parallel.rows import SPLITS, Row, read_jsonl
from saebench.errors import DataError, UsageError, did_you_mean

BUILTIN = {"everyday": Path(__file__).with_name("everyday.jsonl")}
FORMS = "'builtin:everyday', 'jsonl:PATH' or 'hf:DATASET[@REVISION][:LANGUAGE,LANGUAGE,...]'"
LEAST = 2  # the fewest rows of a split; an interval needs two


@dataclass(frozen=True)
class Parallel:
    """Rows that say the same thing in every language, in the splits ``train``, ``validation`` and ``test``."""

    ref: str
    languages: tuple[str, ...]  # ISO 639-1
    splits: dict[str, list[dict[str, str]]]  # rows {language: sentence}

    def sentences(self, split: str, language: str) -> list[str]:
        """Return the sentences of a split in one language, in the same order for every language.

        Raises:
            UsageError: There is no such split or language.
        """
        if split not in self.splits:
            raise UsageError(f"There is no split {split!r}.{did_you_mean(split, self.splits)} Give {_list(SPLITS)}.")
        if language not in self.languages:
            raise UsageError(f"{self.ref!r} has no language {language!r}; it has {', '.join(self.languages)}.")
        return [row[language] for row in self.splits[split]]

    @cached_property
    def content_hash(self) -> str:
        """The sha256 of the languages and the sentences, split by split, in order."""
        parts = [part for split in SPLITS for row in self.splits[split] for part in (split, *row.values())]
        return hashlib.sha256(Documents("", [*self.languages, *parts]).content_hash.encode()).hexdigest()


def load_parallel(ref: str) -> Parallel:
    """Load the parallel set that ``ref`` names.

    Args:
        ref: ``builtin:everyday`` is the set that is bundled with the package. ``jsonl:PATH`` is a file with one JSON
            object per line, which has a ``split`` and a sentence under each two-letter language code. ``hf:DATASET`` is
            FLORES-200 in its form for single languages, such as ``hf:facebook/flores`` or
            ``hf:openlanguagedata/flores_plus``; it needs the extra ``hub``.

    Raises:
        UsageError: The reference is wrong.
        DataError: The set cannot be read, a row lacks a language, a sentence is empty, or there are too few rows.
    """
    scheme, separator, rest = ref.partition(":")
    schemes = ("builtin", "jsonl", "hf")
    if not separator or scheme not in schemes:
        raise UsageError(f"Unknown parallel set {ref!r}.{did_you_mean(scheme, schemes)} Give {FORMS}.")
    if not rest:
        raise UsageError(f"The reference {ref!r} names nothing. Give {FORMS}.")
    if scheme == "hf":
        return _checked(ref, flores_rows(parse_flores(rest)))
    if scheme == "builtin" and rest not in BUILTIN:
        raise UsageError(f"There is no built-in parallel set {rest!r}.{did_you_mean(rest, BUILTIN)} Give {FORMS}.")
    # Unlike Path.is_file, os.path.isfile is also False for names that no file can have.
    if scheme == "jsonl" and not os.path.isfile(rest):
        raise UsageError(f"The file {rest!r} with parallel sentences does not exist or is not a file.")
    return _checked(ref, read_jsonl(BUILTIN[rest] if scheme == "builtin" else Path(rest)))


def _checked(ref: str, rows: Iterable[Row]) -> Parallel:
    """Return the set of ``rows``, with white space around sentences removed. The first row determines the languages."""
    languages: tuple[str, ...] | None = None
    splits: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    for row in rows:
        if languages is None:
            languages = tuple(row.sentences)
        missing = [language for language in languages if language not in row.sentences]
        if missing:
            raise DataError(
                f"{row.where}: there is no sentence in {_list(missing)}; every row needs {', '.join(languages)}."
            )
        unknown = [language for language in row.sentences if language not in languages]
        if unknown:
            raise DataError(f"{row.where}: there is a sentence in {_list(unknown)}, which the first row does not have.")
        sentences = {language: row.sentences[language].strip() for language in languages}
        empty = [language for language, sentence in sentences.items() if not sentence]
        if empty:
            raise DataError(f"{row.where}: the sentence in {_list(empty)} is empty; write one or leave out the row.")
        splits[row.split].append(sentences)
    if languages is None:
        raise DataError(f"{ref!r} has no rows.")
    if len(languages) < 2:
        raise DataError(f"{ref!r} has {'one language' if languages else 'no language'}; a parallel set needs two.")
    for split, of_split in splits.items():
        if len(of_split) < LEAST:
            amount = f"{len(of_split)} row{'s' * (len(of_split) != 1)}"
            raise DataError(f"{ref!r} has {amount} in the split {split!r}, which needs at least {LEAST}.")
    return Parallel(ref, languages, splits)


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
