"""The table of records: one row per number, always with the same columns, `COLUMNS`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd

from saebench.cards.audits import letter_of
from saebench.cards.registry import registry
from saebench.results import csv_text
from saebench.results.collection import Collection
from saebench.results.filters import Filters, apply
from saebench.results.record import Measurement, Record, Status
from saebench.results.render import TOKENS, WideTable, markdown, to_wide
from saebench.safe_text import json_text, visible

__all__ = [
    "COLUMNS",
    "export",
    "from_csv",
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
    "grade": "str",
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

    If there are several copies of a record, the newest counts. Files that are no records are left out with a warning.
    Raises UsageError for a path that does not exist.
    """
    return from_records(read(*paths))


def read(*paths: Path | str) -> list[Record]:
    """Return the records that `load` makes a table of."""
    return Collection(paths).records


def from_records(records: Iterable[Record]) -> pd.DataFrame:
    """Return the table of ``records``, with exactly the columns `COLUMNS`.

    Every number has a row, and so has every record without numbers; its metric is "". ``error`` says why a record
    failed, why its task does not apply, or why a number is not scored (its value is NaN). ``higher_is_better`` and
    ``primary`` come from the installed task cards; they are missing for tasks and versions that are not installed.
    ``grade`` is that of `saebench audit`, or "" for a metric that was not audited in this version of its task.
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
    cells.columns = cells.columns.map(visible)
    style = cells.reset_index(drop=True).style.hide(axis="index")
    style = style.format(escape="latex").format_index(escape="latex", axis="columns")
    latex = str(style.to_latex(hrules=True, column_format="l" * len(cells.columns)))
    return latex.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


def _latex_cell(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else visible(str(cell))


def export(frame: pd.DataFrame | WideTable, format: Format) -> bytes:
    """Return ``frame`` as the bytes of a file. CSV, JSON and Parquet hold numbers in full and read back equal.

    `from_csv` reads CSV; `saebench.results.csv_text` says what other readers should know.
    """
    if isinstance(frame, WideTable):
        if format == "md":
            return f"{frame.to_markdown()}\n".encode()
        if format == "latex":
            return f"% {visible(frame.caption)}\n{to_latex(frame.cells)}".encode()
        frame = frame.cells
    if format == "md":
        return f"{to_markdown(frame)}\n".encode()
    if format == "latex":
        return to_latex(frame).encode()
    if format == "csv":
        return csv_text.write(list(frame.columns), frame.itertuples(index=False, name=None)).encode()
    if format == "json":
        # DataFrame.to_json would cut floats to 15 digits.
        cells = frame.astype(object).where(frame.notna(), None)
        rows = cells.to_dict(orient="records")
        text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False, default=_isoformat)
        return f"{json_text(text)}\n".encode()
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def from_csv(content: bytes) -> pd.DataFrame:
    """Return the long table whose CSV `export` returned. Raises ValueError for any other content."""
    rows = csv_text.read(content.decode())
    if any(tuple(row) != COLUMNS for row in rows):
        raise ValueError("This is no long table: its columns are not those of saebench.results.table.COLUMNS.")
    cells = {column: pd.Series([row[column] for row in rows], dtype="str") for column in COLUMNS}
    return pd.DataFrame({column: _typed(series, _DTYPES[column]) for column, series in cells.items()})


def _typed(cells: pd.Series[str], dtype: str) -> pd.Series[Any]:
    if dtype == "str":
        return cells
    known = cells.where(cells != "")
    if dtype.startswith("datetime"):
        return pd.to_datetime(known, format="ISO8601", utc=True).astype(cast(Any, dtype))
    if dtype == "boolean":
        return known.map({"True": True, "False": False}).astype("boolean")
    return pd.to_numeric(known).astype(cast(Any, dtype))


def _isoformat(value: pd.Timestamp) -> str:
    return value.isoformat()


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
        "grade": "",
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
            "grade": letter_of(who.task, who.task_version, number.metric),
            "error": _error(record, number),
        }


def _error(record: Record, number: Measurement) -> str:
    return record.error if record.status is not Status.OK else number.not_scored or ""
