"""FLORES-200 from the Hugging Face hub, in the form that has one configuration for each language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from saebench.data.hub import config_names, load_table
from saebench.data.parallel.rows import Row
from saebench.errors import DataError, UsageError, did_you_mean

# The configurations that a language may have: FLORES+ has other names for Mandarin than FLORES-200.
CONFIGS = {
    "ar": ("arb_Arab",),
    "de": ("deu_Latn",),
    "en": ("eng_Latn",),
    "es": ("spa_Latn",),
    "fr": ("fra_Latn",),
    "hi": ("hin_Deva",),
    "id": ("ind_Latn",),
    "it": ("ita_Latn",),
    "ja": ("jpn_Jpan",),
    "ko": ("kor_Hang",),
    "nl": ("nld_Latn",),
    "pl": ("pol_Latn",),
    "pt": ("por_Latn",),
    "ru": ("rus_Cyrl",),
    "sv": ("swe_Latn",),
    "th": ("tha_Thai",),
    "tr": ("tur_Latn",),
    "uk": ("ukr_Cyrl",),
    "vi": ("vie_Latn",),
    "zh": ("zho_Hans", "cmn_Hans"),
}
DEFAULT = ("en", "fr", "es", "pt", "it", "de", "ru", "zh")  # the languages of the built-in set
COLUMNS = ("sentence", "text")  # the columns of FLORES-200 and of FLORES+

# The sentences of an article are consecutive, so cutting the rows, unlike drawing them, divides one article at most.
TRAINING_SHARE = 0.75


@dataclass(frozen=True)
class FloresRef:
    """A dataset on the hub with the configurations and columns of FLORES."""

    dataset: str
    revision: str | None
    languages: tuple[str, ...]


def parse_flores(rest: str) -> FloresRef:
    """Parse ``DATASET[@REVISION][:LANGUAGE,LANGUAGE,...]`` without loading anything.

    Raises:
        UsageError: The text has another form, or a language is unknown.
    """
    dataset, separator, listed = rest.partition(":")
    name, _, revision = dataset.partition("@")
    languages = tuple(listed.split(",")) if separator else DEFAULT
    if not name or len(set(languages)) < max(2, len(languages)):
        raise UsageError(
            f"Cannot read the parallel set 'hf:{rest}'. Give 'hf:DATASET[@REVISION][:LANGUAGE,LANGUAGE,...]' with two "
            "or more different languages."
        )
    for language in languages:
        if language not in CONFIGS:
            raise UsageError(
                f"No FLORES language {language!r} is known.{did_you_mean(language, CONFIGS)} The known ones are "
                f"{', '.join(CONFIGS)}; give others as 'jsonl:PATH'."
            )
    return FloresRef(name, revision or None, languages)


def flores_rows(ref: FloresRef) -> Iterator[Row]:
    """Yield the rows of a dataset.

    The first three quarters of its part ``dev`` are for training and the rest for validation; ``devtest`` is for tests.

    Raises:
        DataError: The extra ``hub`` is not installed, the dataset or a language is missing, or the languages do not
            match row by row.
    """
    available = config_names("Parallel sentences", ref.dataset, ref.revision)
    configs = {language: _config(ref.dataset, language, available) for language in ref.languages}
    for part in ("dev", "devtest"):
        tables = {
            language: load_table("Parallel sentences", ref.dataset, config, part, ref.revision)
            for language, config in configs.items()
        }
        yield from _rows(ref.dataset, part, tables)


def _config(dataset: str, language: str, available: Sequence[str]) -> str:
    for config in CONFIGS[language]:
        if config in available:
            return config
    raise DataError(
        f"The dataset {dataset!r} has no configuration {' or '.join(CONFIGS[language])}, unlike FLORES-200."
    )


def _rows(dataset: str, part: str, tables: dict[str, Any]) -> Iterator[Row]:
    """Yield the rows of one part. The table of each language has a column of sentences, and perhaps ``id``."""
    columns = {language: _column(dataset, table.column_names) for language, table in tables.items()}
    sentences = {language: list(tables[language][column]) for language, column in columns.items()}
    keys = {tuple(table["id"]) for table in tables.values() if "id" in table.column_names}
    lengths = {language: len(rows) for language, rows in sentences.items()}
    if len(set(lengths.values())) > 1 or len(keys) > 1:
        raise DataError(
            f"The languages of the split {part!r} of {dataset!r} do not match row by row (they have {lengths} rows)."
        )
    n = next(iter(lengths.values()))
    for index in range(n):
        split = "test" if part == "devtest" else "train" if index < TRAINING_SHARE * n else "validation"
        yield Row(split, {name: rows[index] for name, rows in sentences.items()}, f"{dataset}, {part} row {index}")


def _column(dataset: str, columns: Sequence[str]) -> str:
    for column in COLUMNS:
        if column in columns:
            return column
    raise DataError(
        f"The dataset {dataset!r} has no column 'sentence' or 'text'; its columns are {', '.join(columns)}."
    )
