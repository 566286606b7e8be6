"""The pivot: a plain table of values with rows and columns that the user chooses, for spreadsheets and plots."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from saebench.errors import UsageError, did_you_mean

# These fields distinguish one number from another; a pivot may name the others, too.
_KEYS = ("sae", "task", "metric", "subset", "model", "hook", "preset", "seed", "task_version", "record_id")
FIELDS = (*_KEYS, "architecture", "d_sae", "l0", "control")
_NAME = "/"  # the name of the level of column names; no column of the table has this name


def parse(text: str) -> tuple[list[str], list[str]]:
    """Split ``"sae,seed/metric"`` into row fields and column fields. Raises UsageError for anything else."""
    rows, slash, columns = text.partition("/")
    sides = [[field.strip() for field in side.split(",") if field.strip()] for side in (rows, columns)]
    if not slash or not all(sides):
        raise UsageError(f"A pivot is ROWS/COLUMNS, such as sae/metric or sae,seed/task,metric, not {text!r}.")
    fields = [*sides[0], *sides[1]]
    for field in fields:
        if field not in FIELDS:
            raise UsageError(f"A pivot has no field {field!r}.{did_you_mean(field, FIELDS)}")
        if fields.count(field) > 1:
            raise UsageError(f"The pivot {text!r} names the field {field!r} twice.")
    return sides[0], sides[1]


def pivot(frame: pd.DataFrame, rows: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return the values of ``frame`` with a row per combination of ``rows`` and a column per one of ``columns``.

    The rows are sorted. The row fields come first, as columns; the values of several column fields are joined by ``/``
    to one name. A cell is NaN where there is no number or where it is not scored; a record without numbers is an empty
    row. Numbers are never averaged.

    Raises:
        UsageError: There are no numbers, or two numbers fall into one cell; the message names the field that
            distinguishes them.
    """
    numbers = frame[frame["metric"] != ""]
    if numbers.empty:
        raise UsageError("There are no numbers to pivot: no record here has any.")
    numbers = numbers.assign(**{_NAME: _names(numbers, columns)})
    keys = [*rows, _NAME]
    _one_per_cell(numbers, keys)
    values = numbers.set_index(keys)["value"].unstack(_NAME)[list(dict.fromkeys(numbers[_NAME]))]
    everything = frame[list(rows)].drop_duplicates().sort_values(list(rows))
    table = everything.merge(values, how="left", left_on=list(rows), right_index=True).reset_index(drop=True)
    table.columns.name = None
    return table


def _names(numbers: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return the column name of each number. An empty subset adds nothing to it."""
    parts = zip(*(numbers[column].astype(str) for column in columns), strict=True)
    return ["/".join(part for part in cell if part) for cell in parts]


def _one_per_cell(numbers: pd.DataFrame, keys: Sequence[str]) -> None:
    repeated = numbers[numbers.duplicated(list(keys), keep=False)]
    if repeated.empty:
        return
    _, cell = next(iter(repeated.groupby(list(keys), dropna=False, sort=False)))
    apart = [key for key in _KEYS if key not in keys and cell[key].nunique() > 1]
    where = ", ".join(str(cell[key].iloc[0]) for key in keys)
    raise UsageError(
        f"{len(cell)} numbers fall into one cell ({where}); they differ in {' and '.join(apart)}: "
        "choose one with a filter, or name that field in the pivot."
    )
