"""The expanded percentile interval, for values that are computed anew on every bootstrap sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from saebench.stats.estimate import MIN_UNITS, Estimate, student_quantile, without_interval

METHOD = "expanded-percentile"


def expanded_percentile(
    values: NDArray[np.float64], n: int, *, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """Return ``values[0]`` with the expanded percentile interval (Hesterberg, 1411.5279) of the values after it.

    Quantiles of bootstrap samples are too close to the value when units are few, because samples vary less than the
    population does. The interval therefore ends at quantiles farther out, at the levels Phi(± sqrt(n / (n - 1)) t),
    where t is Student's quantile with n - 1 degrees of freedom. It suits curves and other values that have no standard
    error of their own; for means and ratios of sums, `bootstrap_ratio` is better.

    There is no interval for fewer than `MIN_UNITS` units, where a sample has no finite value, and where all samples
    have the same value, which says nothing about other units.

    Args:
        values: The value, followed by those on the bootstrap samples, ``[1 + replicates]``.
        n: The number of units; for several samples of units that are drawn apart, the smallest of them.
        bounds: The bounds of the value. The interval does not leave them.
    """
    value, replicates = float(values[0]), values[1:]
    if n < MIN_UNITS or len(replicates) < 2 or not np.isfinite(values).all():
        return without_interval(value, n, METHOD)
    if np.ptp(replicates) <= 1e-12 * np.max(np.abs(replicates)):
        return without_interval(value, n, METHOD)
    level = float(ndtr(-np.sqrt(n / (n - 1)) * student_quantile(n - 1)))
    low, high = np.quantile(replicates, [level, 1 - level])
    stderr = float(replicates.std(ddof=1)) * float(np.sqrt(n / (n - 1)))
    return Estimate(value, stderr, max(float(low), bounds[0]), min(float(high), bounds[1]), n, METHOD)
