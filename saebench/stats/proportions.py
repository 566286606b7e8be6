"""Intervals for shares, for differences of paired shares, and for values that all units have in common.

Resampling says nothing about a share of 0 of n: every sample has it too. The intervals here add what n units can miss.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from saebench.stats.estimate import CONFIDENCE, Estimate, without_interval

_Z = float(norm.ppf((1 + CONFIDENCE) / 2))
SHARE, PAIRED_SHARES, ALIKE = "agresti-coull", "bonett-price", "all-alike"

Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


def wilson(proportion: ArrayLike, n: ArrayLike) -> Ends:
    """Return the ends of the 95 % score interval (Wilson 1927) of a proportion; NaN where ``n`` is 0.

    Its coverage is right on average over proportions. For some proportions near 0 or 1 it is as low as 85 %; see
    `agresti_coull`.

    Args:
        proportion: The share of successes.
        n: The number of trials, which broadcasts against ``proportion``. It need not be a whole number, because a
            weighted proportion has an effective number of trials.
    """
    p, trials = np.asarray(proportion, np.float64), np.asarray(n, np.float64)
    trials = np.where(trials > 0, trials, np.nan)
    centre = (p + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
    half = _Z / (1 + _Z**2 / trials) * np.sqrt(p * (1 - p) / trials + _Z**2 / (4 * trials**2))
    low, high = np.minimum(centre - half, p), np.maximum(centre + half, p)  # rounding must not leave p outside
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def agresti_coull(proportion: ArrayLike, n: ArrayLike) -> Ends:
    """Return the ends of the 95 % interval of Agresti and Coull (1998) of a proportion; NaN where ``n`` is 0.

    It has Wilson's centre and always contains Wilson's interval. For every proportion it covers 90 % with 6 trials and
    92.5 % with 12 and more.

    Args:
        proportion: The share of successes.
        n: The number of trials, as for `wilson`.
    """
    p, trials = np.asarray(proportion, np.float64), np.asarray(n, np.float64)
    total = np.where(trials > 0, trials, np.nan) + _Z**2
    centre = (p * trials + _Z**2 / 2) / total
    half = _Z * np.sqrt(centre * (1 - centre) / total)
    low, high = np.minimum(centre - half, p), np.maximum(centre + half, p)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def weighted_proportion(hits: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> Estimate:
    """Return the weighted mean of ``hits`` with the interval of `agresti_coull`; NaN if the weights sum to 0.

    The number of trials is Kish's effective sample size, (sum w)^2 / sum w^2, which is n for equal weights. Hits
    strictly between 0 and 1 vary less than hits of 0 or 1, so for them the interval is too wide rather than too narrow.

    Args:
        hits: The score of each unit, from 0 to 1.
        weights: The weight of each unit; by default they are equal.
    """
    w = np.ones(len(hits)) if weights is None else np.asarray(weights, np.float64)
    total = float(w.sum())
    if total <= 0:
        return without_interval(np.nan, len(hits), SHARE)
    p = float((w * hits).sum()) / total
    effective = _effective(w)
    low, high = agresti_coull(p, effective)
    stderr = float(np.sqrt(max(p * (1 - p), 0.0) / effective))
    return Estimate(p, stderr, float(low), float(high), len(hits), SHARE)


def paired_shares(differences: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> Estimate:
    """Return the weighted mean of differences of -1, 0 or 1 with the interval of Bonett and Price (2012).

    It adds one unit that gains and one that loses, so that 0 of n differences do not count as certainty. With p =
    (gains + 1) / (n + 2), q = (losses + 1) / (n + 2) and d = p - q it is d ± z sqrt((p + q - d^2) / (n + 2)). It covers
    93 % and more from 6 units on. The number of units is Kish's effective one, as in `weighted_proportion`.

    Args:
        differences: -1, 0 or 1 for each unit, ``[n]``.
        weights: The weight of each unit, above 0; by default they are equal.
    """
    n = len(differences)
    w = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    if not w.sum() > 0:
        return without_interval(np.nan, n, PAIRED_SHARES)
    effective = _effective(w)
    gained, lost = (float(w[differences == sign].sum() / w.sum()) for sign in (1, -1))
    value = gained - lost
    centre, spread = bonett_price(gained, lost, effective)
    half = _Z * spread
    low, high = min(max(centre - half, -1.0), value), max(min(centre + half, 1.0), value)
    stderr = float(np.sqrt(max(gained + lost - value**2, 0.0) / effective))
    return Estimate(value, stderr, float(low), float(high), n, PAIRED_SHARES)


def bonett_price(gained: float, lost: float, n: float) -> tuple[float, float]:
    """Return the centre of the interval of `paired_shares`, and its half width divided by z.

    Args:
        gained: The share of units that gain.
        lost: The share of units that lose.
        n: The number of units.
    """
    p, q = ((share * n + 1) / (n + 2) for share in (gained, lost))
    return p - q, float(np.sqrt((p + q - (p - q) ** 2) / (n + 2)))


def all_alike(value: float, weights: NDArray[np.float64], bounds: tuple[float, float]) -> Estimate:
    """Return a value that every unit has in common, with what is known about units that were not seen.

    Of other units, at most a share u has another value, where u is the upper end of `agresti_coull` for 0 hits. In the
    worst case they lie at a bound, so the interval is [value - u (value - low), value + u (high - value)]. Where a
    bound is infinite there is no interval.

    Args:
        value: The value.
        weights: The weight of each unit.
        bounds: Between which bounds the value of a unit lies.
    """
    low, high = bounds
    n = len(weights)
    if not (np.isfinite(low) and np.isfinite(high) and low <= value <= high):
        return without_interval(value, n, ALIKE)
    unseen = float(agresti_coull(0.0, _effective(weights))[1])
    return Estimate(value, 0.0, value - unseen * (value - low), value + unseen * (high - value), n, ALIKE)


def _effective(weights: NDArray[np.float64]) -> float:
    return float(weights.sum()) ** 2 / float(np.square(weights).sum())
