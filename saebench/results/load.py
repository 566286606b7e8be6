"""``saebench.results.load``: the table of records, as ``saebench table`` shows it, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_FOLDER = Path("saebench-results")  # where `saebench run` writes, and everything else looks


def load(
    *paths: str | Path, controls: bool = True, **filters: str | int | Sequence[str] | Sequence[int]
) -> pd.DataFrame:
    """The table of the records in ``paths`` (files, or folders of any depth; by default ``saebench-results``).

    One row per number, with the columns of ``saebench.results.table.COLUMNS``; direction and primary come from the
    installed task cards. ``filters`` are those of ``saebench table``: task, sae, model, hook, preset, metric, subset,
    seed, status, each a value or several; texts may hold ``*`` and ``?``. ``controls=False`` leaves out controls.
    Raises UsageError for a path that does not exist, an unknown filter or value, and when nothing is left.

    >>> load("results", task="core", sae="zoo:*", metric=["fvu", "l0"])  # doctest: +SKIP
    """
    from saebench.results.filters import Filters, apply
    from saebench.results.table import load as load_table

    known = [field.name for field in fields(Filters) if field.name != "controls"]
    for name in filters:
        if name not in known:
            raise UsageError(f"There is no filter {name!r}; filters are {', '.join(known)}.{did_you_mean(name, known)}")
    wanted: dict[str, Any] = {
        name: [value] if isinstance(value, str | int) else list(value) for name, value in filters.items()
    }
    frame = load_table(*(paths or (DEFAULT_FOLDER,)))
    return apply(frame, Filters(**wanted, controls=controls))
