"""Filters of the table: which rows of `saebench.results.table.load` are wanted, as pure functions of the frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pandas as pd

from saebench.errors import UsageError, did_you_mean

_WILD = frozenset("*?[")
# Records without numbers (failed, not applicable) have no metric and no subset; they stay, and say why.
_OF_NUMBERS = ("metric", "subset")


@dataclass(frozen=True)
class Filters:
    """Wanted values by column. Several values of a column are alternatives, several columns must all fit.

    Texts may hold the wildcards ``*``, ``?`` and ``[...]``; a value that is there literally is that value. The subset
    ``""`` is the number over everything.
    """

    task: Sequence[str] = ()
    sae: Sequence[str] = ()
    model: Sequence[str] = ()
    hook: Sequence[str] = ()
    preset: Sequence[str] = ()
    metric: Sequence[str] = ()
    subset: Sequence[str] = ()
    seed: Sequence[int] = ()
    status: Sequence[str] = ()
    controls: bool = True  # False: without the records of controls


_COLUMNS = ("task", "sae", "model", "hook", "preset", "seed", "status", "metric", "subset")


def apply(frame: pd.DataFrame, filters: Filters) -> pd.DataFrame:
    """The rows of ``frame`` that ``filters`` want; the frame's ``attrs`` stay.

    ``metric`` and ``subset`` choose among numbers: the rows of records that have none stay. Raises UsageError for a
    value that no row has, and when nothing is left, naming the filter that took the last rows.
    """
    wanted = {column: _known(frame, column, values) for column in _COLUMNS if (values := getattr(filters, column))}
    before: list[str] = []
    if not filters.controls:
        frame = frame[~frame["control"].fillna(False)]
        if frame.empty:
            raise UsageError("Nothing is left: every result is of a control.")
        before.append("an SAE that is no control")
    for column, values in wanted.items():
        fits = frame[column].isin(values)
        if column in _OF_NUMBERS:
            empty = not (fits & (frame["metric"] != "")).any()
            fits |= frame["metric"] == ""
        else:
            empty = not fits.any()
        says = _says(column, getattr(filters, column))
        if empty:
            raise UsageError(f"Nothing is left: of the results with {' and '.join(before)}, none has {says}.")
        frame = frame[fits]
        before.append(says)
    return frame


def matching(frame: pd.DataFrame, column: str, patterns: Sequence[str]) -> list[str]:
    """The values of text column ``column`` that fit ``patterns``, in the order of these, then of the rows.

    Raises UsageError for a pattern that fits none.
    """
    values = [value for value in dict.fromkeys(frame[column]) if value or column == "subset"]
    found: dict[str, None] = {}
    for pattern in patterns:
        fitting = [pattern] if pattern in values else [value for value in values if fnmatchcase(value, pattern)]
        if not fitting and _WILD & set(pattern):
            raise UsageError(f"No result has a {column} like {pattern!r}.{_choices(values)}")
        if not fitting:
            raise UsageError(f"No result has the {column} {pattern!r}.{did_you_mean(pattern, values)}")
        found |= dict.fromkeys(fitting)
    return list(found)


def _known(frame: pd.DataFrame, column: str, values: Sequence[str | int]) -> Sequence[str | int]:
    if column != "seed":
        numbers = frame[frame["metric"] != ""] if column == "subset" else frame
        return matching(numbers, column, [str(value) for value in values])
    known = sorted(set(frame["seed"].dropna()))
    for seed in values:
        if seed not in known:
            raise UsageError(f"No result has the seed {seed}.{_choices(map(str, known))}")
    return values


def _choices(values: Iterable[str]) -> str:
    """`` There are a, b, c.``, the first few of them."""
    names = sorted(values)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f" There are {', '.join(names[:8])}{more}." if names else ""


def _says(column: str, values: Sequence[str | int]) -> str:
    return f"{column} {' or '.join(map(repr, values))}"
