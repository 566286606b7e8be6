"""Intervals for ratios of sums over sampling units (sequences), for means, and by the jackknife.

Every metric that is summed over tokens is a ratio ``sum_u num_u / sum_u den_u`` over units ``u``. The denominator is
the number of tokens for a mean, the total variance for FVU, and the range of losses for CE recovered. Units rather than
tokens are resampled, because the tokens of a sequence are not independent.

``docs/intervals.md`` shows how often each interval holds the truth, by kind of number and number of units.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saebench.stats import proportions, studentised
from saebench.stats.estimate import CONFIDENCE, MIN_UNITS, Estimate, student, with_caveat, without_interval

__all__ = [
    "CONFIDENCE",
    "MIN_UNITS",
    "UNBOUNDED",
    "Estimate",
    "bootstrap_ratio",
    "clipped",
    "jackknife",
    "jackknife_error",
    "mean_estimate",
    "ratio",
    "resampling_weights",
    "weighted_mean",
]

UNBOUNDED = (-np.inf, np.inf)


def resampling_weights(n_units: int, replicates: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how often each unit is drawn in each bootstrap sample: multinomial counts ``[replicates, n_units]``.

    They are drawn once for each seed and ``n_units`` and shared by all SAEs and metrics, so that differences are
    paired.
    """
    if not n_units:
        return np.zeros((replicates, 0))
    return rng.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=replicates).astype(np.float64)


def ratio(num: NDArray[np.float64], den: NDArray[np.float64]) -> float:
    """Return ``sum(num) / sum(den)``, or NaN if the denominator is zero."""
    total = float(np.sum(den))
    return float(np.sum(num)) / total if total != 0.0 else float("nan")


def bootstrap_ratio(
    num: NDArray[np.float64],
    den: NDArray[np.float64],
    weights: NDArray[np.float64],
    bounds: tuple[float, float] = UNBOUNDED,
) -> Estimate:
    """Return ``sum(num) / sum(den)`` with the 95 % interval that suits it; ``method`` names it.

    * "bootstrap-t": see `studentised`; for everything but what follows.
    * "agresti-coull": every numerator is 0 or the denominator, so the value is a share (`weighted_proportion`).
    * "bonett-price": every numerator is 0 or plus or minus the denominator, so the value is a difference of paired
      shares (`paired_shares`).
    * "all-alike": all units have the same value, which no sample changes (`all_alike`).

    Units with numerator and denominator 0 are not scored and do not count. There is no interval for fewer than
    `MIN_UNITS` units. There is none either if the denominator of a replicate is zero or has another sign than that of
    the estimate, or would be without one of the units: the ratio then passes through infinity, so no finite interval
    holds it.

    Args:
        num: The numerator of each unit, ``[n]``.
        den: The denominator of each unit, ``[n]``.
        weights: The bootstrap samples ``[replicates, n]`` of `resampling_weights`.
        bounds: The bounds of the ratio. They tell a share (0 to 1) from a difference of shares (-1 to 1) where the
            numbers alone do not, and how far units that were not seen may lie off. The interval does not leave them.
    """
    num, den = np.asarray(num, np.float64), np.asarray(den, np.float64)
    value, n = ratio(num, den), len(num)
    if not np.isfinite(value) or not np.isfinite(den).all():
        return without_interval(value, n, studentised.METHOD)
    scored = (num != 0) | (den != 0)
    if np.count_nonzero(scored) < MIN_UNITS:
        return without_interval(value, n, studentised.METHOD)
    estimate = _counted(num[scored], den[scored], bounds)
    if estimate is None:
        linear = studentised.linearise(num[scored], den[scored])
        if linear.alike:
            estimate = proportions.all_alike(value, np.abs(den[scored]), bounds)
        else:
            estimate = studentised.bootstrap_t(linear, weights if scored.all() else weights[:, scored])
    return clipped(replace(estimate, value=value, n=n), bounds)


def clipped(estimate: Estimate, bounds: tuple[float, float]) -> Estimate:
    """Return the estimate with an interval that does not leave the bounds, nor the value out."""
    if bounds == UNBOUNDED or np.isnan(estimate.ci_low) or np.isnan(estimate.ci_high):
        return estimate
    # A value may lie beyond a bound by rounding.
    low = min(max(estimate.ci_low, bounds[0]), max(estimate.ci_low, estimate.value))
    high = max(min(estimate.ci_high, bounds[1]), min(estimate.ci_high, estimate.value))
    return replace(estimate, ci_low=low, ci_high=high)


def _counted(num: NDArray[np.float64], den: NDArray[np.float64], bounds: tuple[float, float]) -> Estimate | None:
    """Return the estimate of a share or of a difference of shares; None if the numbers are neither."""
    if not (den > 0).all() or not ((num == 0) | (np.abs(num) == den)).all():
        return None
    signs = np.sign(num)
    kinds = set(np.unique(signs).tolist())
    unbounded = bounds == UNBOUNDED
    if -1.0 not in kinds and (bounds == (0.0, 1.0) or (unbounded and len(kinds) == 2)):
        return proportions.weighted_proportion(signs, den)
    if bounds == (-1.0, 1.0) or (unbounded and -1.0 in kinds and len(kinds) > 1):
        return proportions.paired_shares(signs, den)
    return None


def mean_estimate(values: NDArray[np.float64]) -> Estimate:
    """Return the mean of independent values with Student's interval; NaN if there are none."""
    return weighted_mean(values, np.ones(len(values)))


def weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Estimate:
    """Return the weighted mean of independent values with Student's interval; NaN if the weights sum to 0.

    The standard error and its degrees of freedom are those of `studentised.linearise`. For equal weights they are those
    of a mean. There is no interval where fewer than two values have a weight, or where all values are the same.

    Args:
        values: The values, ``[n]``.
        weights: The weight of each, 0 or more.
    """
    n, total = len(values), float(np.sum(weights))
    if not total > 0:
        return without_interval(np.nan, n, "student-t")
    counted = weights > 0
    units = int(np.count_nonzero(counted))
    value = float(np.sum(weights * values)) / total
    if units < 2 or not np.isfinite(value):
        return without_interval(value, n, "student-t")
    linear = studentised.linearise((weights * values)[counted], weights[counted])
    if linear.alike:
        return without_interval(value, n, "student-t")
    return student(value, linear.stderr, linear.df, n, with_caveat("student-t", units))


def jackknife(value: float, left_out: NDArray[np.float64]) -> Estimate:
    """Return ``value`` with Student's interval from the values ``left_out[n]`` without each unit (Tukey's jackknife).

    It suits numbers of things that occur at least once, such as latents that are not dead. The bootstrap is biased
    there, because a resample holds only 63 % of the distinct units. There is no interval for fewer than
    `MIN_UNITS` units, nor where leaving out any one of them changes nothing, which says too little about other units.
    """
    left_out = np.asarray(left_out, np.float64)
    n = len(left_out)
    if n < MIN_UNITS or not np.isfinite(value) or np.ptp(left_out) <= 1e-12 * np.max(np.abs(left_out)):
        return without_interval(value, n, "jackknife")
    return student(value, jackknife_error(left_out), n - 1, n, "jackknife")


def jackknife_error(left_out: NDArray[np.float64]) -> float:
    """Return Tukey's standard error from the values ``left_out[n]`` without each unit; NaN for fewer than two units."""
    n = len(left_out)
    return float(np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2))) if n > 1 else float("nan")
