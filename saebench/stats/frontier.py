"""Trade-offs between an effect and what it costs: who is beaten by nobody, and how much is won at which cost.

Changing nothing has effect 0 and cost 0 and is always possible. So an effect below 0 counts as 0 (nobody has to apply
what works backwards), and so does a cost below 0 (noise around a free edit).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saebench.errors import DataError, UsageError

Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def pareto(effect: ArrayLike, cost: ArrayLike) -> NDArray[np.int64]:
    """Places of the points that no other beats (at least as much effect at no more cost, and better in one).

    By ascending cost; points that are equal stay together. Raises DataError for NaN and infinite effects.
    """
    e, c = _points(effect, cost)
    no_worse = (e >= e[:, None]) & (c <= c[:, None])
    better = (e > e[:, None]) | (c < c[:, None])
    kept = np.flatnonzero(~(no_worse & better).any(axis=1))
    return kept[np.argsort(c[kept], kind="stable")].astype(np.int64)


def hypervolume(effect: ArrayLike, cost: ArrayLike, *, max_effect: float, max_cost: float) -> float:
    """Share of the box [0, max_effect] x [0, max_cost] that the points dominate, between 0 and 1.

    The integral over the budget, from 0 to ``max_cost``, of the largest effect within the budget (at most
    ``max_effect``), divided by the area of the box. Nothing is interpolated; 0 without points.
    Raises UsageError for a box without area, DataError as `pareto`.
    """
    if not (0 < max_effect < np.inf and 0 < max_cost < np.inf):
        raise UsageError(f"A hypervolume needs a box larger than 0, not effect {max_effect} by cost {max_cost}.")
    e, c = _counted(effect, cost)
    inside = c < max_cost
    order = np.argsort(c[inside], kind="stable")
    budgets = np.append(c[inside][order], max_cost) / max_cost
    best = np.maximum.accumulate(np.minimum(e[inside][order] / max_effect, 1.0))
    return min(1.0, float(np.sum(best * np.diff(budgets))))


def effect_at_cost(effect: ArrayLike, cost: ArrayLike, budget: float) -> float:
    """The largest effect at a cost of at most ``budget``, along one sweep of strengths in order.

    Effect and cost are taken to be linear between neighbouring strengths, and strength 0, which has neither, comes
    first. 0 without points. Raises UsageError for a budget that is negative or NaN, DataError as `pareto`.
    """
    return best_within(np.arange(1, np.size(effect) + 1), effect, cost, budget)[1]


def best_within(strength: ArrayLike, effect: ArrayLike, cost: ArrayLike, budget: float) -> tuple[float, float]:
    """The strength that has the effect of `effect_at_cost`, interpolated in the same way, and that effect.

    Of several with the same effect it is the weakest; strength 0 where no effect is above 0. Strengths ascend from
    above 0. Raises as `effect_at_cost` does.
    """
    if not budget >= 0:
        raise UsageError(f"A budget of cost must be at least 0, not {budget}.")
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
        raise ValueError(f"effects and costs belong together, one each, unlike shapes {e.shape} and {c.shape}")
    if not (np.isfinite(e).all() and (c > -np.inf).all()):
        raise DataError("A trade-off has an effect or a cost that is NaN or infinite; leave out what was not scored.")
    return e, c


def _counted(effect: ArrayLike, cost: ArrayLike) -> Points:
    e, c = _points(effect, cost)
    return np.maximum(e, 0.0), np.maximum(c, 0.0)
