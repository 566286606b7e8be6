"""``saebench.results.load``: the table that ``saebench table`` prints, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_FOLDER = Path("saebench-results")  # `saebench run` writes here, and everything else reads from here


def load(
    *paths: str | Path, controls: bool = True, **filters: str | int | Sequence[str] | Sequence[int]
) -> pd.DataFrame:
    """Return the table of the records in ``paths``, one row per number.

    Args:
        *paths: Record files, or folders of any depth; by default ``saebench-results``.
        controls: Whether the rows of controls stay.
        **filters: The filters of ``saebench table``: task, sae, model, hook, preset, metric, subset, seed and status.
            Each takes one value or several; texts may hold the wildcards ``*`` and ``?``.

    Returns:
        A frame with the columns `saebench.results.table.COLUMNS`. The columns ``higher_is_better`` and ``primary``
        come from the installed task cards.

    Raises:
        UsageError: A path does not exist, a filter or a value is unknown, or no row is left.

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
