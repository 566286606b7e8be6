"""Wilson's interval for a proportion."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from saebench.stats.intervals import CONFIDENCE, Estimate


def wilson(proportion: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95 % score interval (Wilson 1927) of a proportion; NaN where ``n`` is 0.

    Args:
        proportion: The share of successes.
        n: The number of trials, which broadcasts against ``proportion``. It need not be a whole number, because a
            weighted proportion has an effective number of trials.
    """
    p, trials = np.asarray(proportion, np.float64), np.asarray(n, np.float64)
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    trials = np.where(trials > 0, trials, np.nan)
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    low, high = np.minimum(centre - half, p), np.maximum(centre + half, p)  # rounding must not leave p outside
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def weighted_proportion(hits: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> Estimate:
    """Return the weighted mean of ``hits`` with Wilson's interval; NaN if the weights sum to 0.

    The number of trials is Kish's effective sample size, (sum w)^2 / sum w^2, which is n for equal weights. Hits
    strictly between 0 and 1 vary less than hits of 0 or 1, so for them the interval is too wide rather than too narrow.

    Args:
        hits: The score of each unit, from 0 to 1.
        weights: The weight of each unit; by default they are equal.
    """
    w = np.ones(len(hits)) if weights is None else np.asarray(weights, np.float64)
    total = float(w.sum())
    if total <= 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, len(hits), "wilson")
    p = float((w * hits).sum()) / total
    effective = total**2 / float(np.square(w).sum())
    low, high = wilson(p, effective)
    return Estimate(p, float(np.sqrt(p * (1 - p) / effective)), float(low), float(high), len(hits), "wilson")
