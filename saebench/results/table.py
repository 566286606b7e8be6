"""The table of records: one row per number, always with the same columns, `COLUMNS`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd

from saebench.cards.registry import registry
from saebench.errors import UsageError
from saebench.results.filters import Filters, apply
from saebench.results.record import Measurement, Record, Status
from saebench.results.render import TOKENS, WideTable, markdown, to_wide
from saebench.results.store import ResultStore, read_record

__all__ = [
    "COLUMNS",
    "export",
    "from_records",
    "load",
    "read",
    "select",
    "to_latex",
    "to_markdown",
    "to_wide",
]

# Column -> pandas dtype. Other people's scripts read these names, so they do not change.
_DTYPES = {
    "record_id": "str",
    "model": "str",
    "hook": "str",
    "sae": "str",
    "sae_fingerprint": "str",
    "architecture": "str",
    "d_sae": "Int64",
    "l0": "float64",
    "control": "boolean",
    "task": "str",
    "task_version": "Int64",
    "preset": "str",
    "subset": "str",
    "metric": "str",
    "value": "float64",
    "stderr": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "n": "Int64",
    "unit": "str",
    "higher_is_better": "boolean",
    "primary": "boolean",
    "seed": "Int64",
    "status": "str",
    "error": "str",
    "created": "datetime64[us, UTC]",
    "saebench_version": "str",
    "wall_seconds": "float64",
    "device": "str",
}
COLUMNS = tuple(_DTYPES)

Format = Literal["md", "latex", "csv", "json", "parquet"]


def load(*paths: Path | str) -> pd.DataFrame:
    """Return the table of all records in ``paths`` (record files, or folders of any depth).

    If there are several copies of a record, the newest counts. Damaged files are left out with a warning.
    Raises UsageError for a path that does not exist.
    """
    return from_records(read(*paths))


def read(*paths: Path | str) -> list[Record]:
    """Return the records that `load` makes a table of."""
    newest: dict[str, Record] = {}
    for record in _records(paths):
        known = newest.get(record.record_id)
        if known is None or record.provenance.created > known.provenance.created:
            newest[record.record_id] = record
    return list(newest.values())


def from_records(records: Iterable[Record]) -> pd.DataFrame:
    """Return the table of ``records``, with exactly the columns `COLUMNS`.

    Every number has a row, and so has every record without numbers; its metric is "". ``error`` says why a record
    failed, why its task does not apply, or why a number is not scored (its value is NaN). ``higher_is_better`` and
    ``primary`` come from the installed task cards; they are missing for tasks and versions that are not installed.
    ``frame.attrs["tokens"]`` holds how many tokens each record evaluated.
    """
    records = list(records)
    rows = [row for record in records for row in _rows(record)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(cast(Any, _DTYPES))
    frame.attrs[TOKENS] = {record.record_id: record.counts[TOKENS] for record in records if TOKENS in record.counts}
    return frame


def select(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows of ``metrics`` and those of records without numbers.

    Raises UsageError for a metric that no row has.
    """
    return apply(frame, Filters(metric=metrics))


def to_markdown(frame: pd.DataFrame) -> str:
    """Return ``frame`` as a Markdown table; missing values are empty cells."""
    return markdown(frame.astype(object).where(frame.notna(), ""))


def to_latex(frame: pd.DataFrame) -> str:
    """Return ``frame`` as a LaTeX ``tabular`` with the rules of the package booktabs; every cell is escaped.

    Numbers have four significant digits, and missing values are empty cells. The arrows need no package.
    """
    cells = frame.astype(object).where(frame.notna(), "").map(_latex_cell)
    cells.columns = cells.columns.map(_one_line)
    style = cells.reset_index(drop=True).style.hide(axis="index")
    style = style.format(escape="latex").format_index(escape="latex", axis="columns")
    latex = str(style.to_latex(hrules=True, column_format="l" * len(cells.columns)))
    return latex.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def _latex_cell(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else _one_line(str(cell))


def _one_line(text: str) -> str:
    """Return ``text`` without line breaks and control characters, which would end a row or a comment."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def export(frame: pd.DataFrame | WideTable, format: Format) -> bytes:
    """Return ``frame`` as the bytes of a file. CSV, JSON and Parquet hold numbers in full and read back equal."""
    if isinstance(frame, WideTable):
        if format == "md":
            return f"{frame.to_markdown()}\n".encode()
        if format == "latex":
            return f"% {_one_line(frame.caption)}\n{to_latex(frame.cells)}".encode()
        frame = frame.cells
    if format == "md":
        return f"{to_markdown(frame)}\n".encode()
    if format == "latex":
        return to_latex(frame).encode()
    if format == "csv":
        return frame.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S.%f%z", lineterminator="\n").encode()
    if format == "json":
        # DataFrame.to_json would cut floats to 15 digits.
        cells = frame.astype(object).where(frame.notna(), None)
        rows = cells.to_dict(orient="records")
        return f"{json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False, default=_isoformat)}\n".encode()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _isoformat(value: pd.Timestamp) -> str:
    return value.isoformat()


def _records(paths: Iterable[Path | str]) -> Iterator[Record]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from ResultStore(path)
        elif not path.exists():
            raise UsageError(f"No results at {path}: there is no such file or folder.")
        elif (record := read_record(path)) is not None:
            yield record


def _rows(record: Record) -> Iterator[dict[str, object]]:
    who, sae, how = record.identity, record.sae, record.provenance
    common = {
        "record_id": record.record_id,
        "model": who.model,
        "hook": sae.hook,
        "sae": sae.name,
        "sae_fingerprint": who.sae_fingerprint,
        "architecture": sae.architecture,
        "d_sae": sae.d_sae,
        "l0": sae.l0,
        "control": sae.control,
        "task": who.task,
        "task_version": who.task_version,
        "preset": record.preset,
        "seed": who.seed,
        "status": record.status.value,
        "error": record.error,
        "created": how.created,
        "saebench_version": how.saebench_version,
        "wall_seconds": how.wall_seconds,
        "device": how.device,
        "subset": "",
        "metric": "",
        "unit": "",
    }
    if not record.measurements:
        yield common
    for number in record.measurements:
        spec = registry().metric(who.task, who.task_version, number.metric)
        yield common | {
            "subset": number.subset,
            "metric": number.metric,
            "value": number.value,
            "stderr": number.stderr,
            "ci_low": number.ci_low,
            "ci_high": number.ci_high,
            "n": number.n,
            "unit": number.unit,
            "higher_is_better": spec.higher_is_better if spec else None,
            "primary": spec.primary if spec else None,
            "error": _error(record, number),
        }


def _error(record: Record, number: Measurement) -> str:
    return record.error if record.status is not Status.OK else number.not_scored or ""
