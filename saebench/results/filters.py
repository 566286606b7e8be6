"""Filters of the table: functions that choose among the rows of `saebench.results.table.load`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pandas as pd

from saebench.errors import UsageError, did_you_mean

_WILD = frozenset("*?[")
# Records without numbers (failed, not applicable) have no metric and no subset. These filters keep their rows, which
# say why there are no numbers.
_OF_NUMBERS = ("metric", "subset")


@dataclass(frozen=True)
class Filters:
    """The wanted values of each column. Several values of a column are alternatives; all columns must fit.

    Texts may hold the wildcards ``*``, ``?`` and ``[...]``; a text that equals a value of the column means that value.
    The subset ``""`` means the number over all of the data.
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
    controls: bool = True  # False leaves out the records of controls


_COLUMNS = ("task", "sae", "model", "hook", "preset", "seed", "status", "metric", "subset")


def apply(frame: pd.DataFrame, filters: Filters) -> pd.DataFrame:
    """Return the rows of ``frame`` that fit ``filters``, with the frame's ``attrs``.

    ``metric`` and ``subset`` choose among numbers, so the rows of records without numbers stay.

    Raises:
        UsageError: No row has a wanted value, or no row is left; the message names the filter that removed the last.
    """
    wanted = {column: _known(frame, column, values) for column in _COLUMNS if (values := getattr(filters, column))}
    before: list[str] = []
    if not filters.controls:
        frame = frame[~frame["control"].fillna(False)]
        if frame.empty:
            raise UsageError("Nothing is left: every result is of a control.")
        before.append("an SAE that is not a control")
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
    """Return the values of the text column ``column`` that fit ``patterns``, in the order of patterns, then of rows.

    Raises UsageError for a pattern that no value fits.
    """
    values = [value for value in dict.fromkeys(frame[column]) if value or column == "subset"]
    matches: dict[str, None] = {}
    for pattern in patterns:
        fitting = [pattern] if pattern in values else [value for value in values if fnmatchcase(value, pattern)]
        if not fitting and _WILD & set(pattern):
            raise UsageError(f"No {column} of a result matches {pattern!r}.{_choices(values)}")
        if not fitting:
            raise UsageError(f"No result has the {column} {pattern!r}.{did_you_mean(pattern, values)}")
        matches |= dict.fromkeys(fitting)
    return list(matches)


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
    """Return `` There are a, b, c.`` with the first few of ``values``."""
    names = sorted(values)
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f" There are {', '.join(names[:8])}{more}." if names else ""


def _says(column: str, values: Sequence[str | int]) -> str:
    return f"{column} {' or '.join(map(repr, values))}"
