"""Numbers as text, with as many decimals as their uncertainty justifies and equally many within a column."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median
from typing import Any

MAX_DECIMALS = 6
_LARGE = 1e7  # larger numbers would break the layout


def decimals(values: Iterable[dict[str, Any] | None]) -> int:
    """Return how many decimals a column shows.

    They are two significant digits of the median half-width of its intervals, or three of the values where there are no
    intervals.
    """
    scored = [value for value in values if value is not None and value["value"] is not None]
    widths = [v["ci_high"] - v["ci_low"] for v in scored if v["ci_low"] is not None and v["ci_high"] is not None]
    if widths := [width / 2 for width in widths if width > 0]:
        return _clamped(1 - math.floor(math.log10(median(widths))))
    if sizes := [abs(v["value"]) for v in scored if v["value"] != 0]:
        typical = median(sizes)
        whole = all(float(v["value"]).is_integer() for v in scored)
        return 0 if whole else _clamped(2 - math.floor(math.log10(typical)))
    return 0


def number(value: float | None, places: int) -> str:
    """Return ``value`` with ``places`` decimals and a minus sign as wide as a digit; an en dash for None."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:.2e}" if abs(value) >= _LARGE else f"{value:.{places}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None, places: int) -> str:
    """Return ``[low, high]``; empty where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{number(low, places)}, {number(high, places)}]"


def short(value: float | None) -> str:
    """Return a number that is not in a column, with four significant digits."""
    return "" if value is None else f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _clamped(places: int) -> int:
    return min(max(places, 0), MAX_DECIMALS)
