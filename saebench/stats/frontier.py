"""Trade-offs between an effect and its cost: the Pareto frontier, and how much effect is reached at which cost.

Changing nothing has effect 0 and cost 0 and is always possible. An effect below 0 therefore counts as 0, because nobody
has to apply a change that works backwards. A cost below 0 counts as 0 too, because it is noise around a free change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saebench.errors import DataError, UsageError

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def pareto(effect: ArrayLike, cost: ArrayLike) -> NDArray[np.int64]:
    """Return the indices of the points that no other point beats, by ascending cost.

    A point beats another if it has at least as much effect at no more cost and is better in one of the two. Equal
    points do not beat each other.

    Args:
        effect: The effect of each point, ``[points]``.
        cost: The cost of each point, ``[points]``.

    Raises:
        DataError: An effect is NaN or infinite, or a cost is NaN or -inf.
        ValueError: ``effect`` and ``cost`` do not have the same one-dimensional shape.
    """
    e, c = _points(effect, cost)
    no_worse = (e >= e[:, None]) & (c <= c[:, None])
    better = (e > e[:, None]) | (c < c[:, None])
    kept = np.flatnonzero(~(no_worse & better).any(axis=1))
    return kept[np.argsort(c[kept], kind="stable")].astype(np.int64)


def hypervolume(effect: ArrayLike, cost: ArrayLike, *, max_effect: float, max_cost: float) -> float:
    """Return the share of the box [0, max_effect] x [0, max_cost] that the points dominate, between 0 and 1.

    It is the integral over the budget, from 0 to ``max_cost``, of the largest effect within the budget (at most
    ``max_effect``), divided by the area of the box. Nothing is interpolated. Without points it is 0.

    Args:
        effect: The effect of each point, ``[points]``.
        cost: The cost of each point, ``[points]``.
        max_effect: The height of the box.
        max_cost: The width of the box.

    Raises:
        UsageError: The box has no finite area above 0.
        DataError: As in `pareto`.
    """
    if not (0 < max_effect < np.inf and 0 < max_cost < np.inf):
        raise UsageError(f"A hypervolume needs a box larger than 0, not one of effect {max_effect} by cost {max_cost}.")
    e, c = _counted(effect, cost)
    inside = c < max_cost
    order = np.argsort(c[inside], kind="stable")
    budgets = np.append(c[inside][order], max_cost) / max_cost
    best = np.maximum.accumulate(np.minimum(e[inside][order] / max_effect, 1.0))
    return min(1.0, float(np.sum(best * np.diff(budgets))))


def effect_at_cost(effect: ArrayLike, cost: ArrayLike, budget: float) -> float:
    """Return the largest effect at a cost of at most ``budget`` along a sweep of rising strengths.

    Between neighbouring strengths, effect and cost are interpolated linearly; the sweep begins with strength 0, which
    has effect 0 and cost 0. Without points the result is 0.

    Args:
        effect: The effect at each strength, in the order of the strengths, ``[strengths]``.
        cost: The cost at each strength, ``[strengths]``.
        budget: The highest cost that is allowed.

    Raises:
        UsageError: The budget is negative or NaN.
        DataError: As in `pareto`.
    """
    return best_within(np.arange(1, np.size(effect) + 1), effect, cost, budget)[1]


def best_within(strength: ArrayLike, effect: ArrayLike, cost: ArrayLike, budget: float) -> tuple[float, float]:
    """Return the strength with the largest effect at a cost of at most ``budget``, and that effect.

    Both are interpolated as in `effect_at_cost`. Among strengths with the same effect the weakest is taken, which is
    strength 0 if no effect is above 0.

    Args:
        strength: The strengths, above 0 and ascending, ``[strengths]``.
        effect: The effect at each strength, ``[strengths]``.
        cost: The cost at each strength, ``[strengths]``.
        budget: The highest cost that is allowed.

    Raises:
        UsageError: The budget is negative or NaN.
        DataError: As in `pareto`.
    """
    if not budget >= 0:
        raise UsageError(f"The budget for the cost must be at least 0, not {budget}.")
    e, c = (np.append(0.0, values) for values in _counted(effect, cost))
    s = np.append(0.0, strength)
    within = c <= budget
    crossing = within[1:] != within[:-1]
    low = np.where(within[:-1], np.arange(len(e) - 1), np.arange(1, len(e)))[crossing]
    high = np.where(within[:-1], np.arange(1, len(e)), np.arange(len(e) - 1))[crossing]
    share = (budget - c[low]) / (c[high] - c[low])
    strengths = np.append(s[within], s[low] + share * (s[high] - s[low]))
    effects = np.append(e[within], e[low] + share * (e[high] - e[low]))
    best = np.lexsort((strengths, -effects))[0]
    return float(strengths[best]), float(effects[best])


def _points(effect: ArrayLike, cost: ArrayLike) -> Points:
    e, c = np.asarray(effect, np.float64), np.asarray(cost, np.float64)
    if e.shape != c.shape or e.ndim != 1:
        raise ValueError(f"each point has one effect and one cost, but their shapes are {e.shape} and {c.shape}")
    if not (np.isfinite(e).all() and (c > -np.inf).all()):
        raise DataError(
            "A point of the trade-off has an effect or a cost that is NaN or infinite; leave out points that are not "
            "scored."
        )
    return e, c


def _counted(effect: ArrayLike, cost: ArrayLike) -> Points:
    e, c = _points(effect, cost)
    return np.maximum(e, 0.0), np.maximum(c, 0.0)
