"""Intervals for ratios of sums over sampling units (sequences), by the BCa bootstrap and by the jackknife.

Every metric that is summed over tokens is a ratio ``sum_u num_u / sum_u den_u`` over units ``u``. The denominator is
the number of tokens for a mean, the total variance for FVU, and the range of losses for CE recovered. Units rather than
tokens are resampled, because the tokens of a sequence are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and 95 % interval, which are NaN where there is none."""

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    n: int  # the number of units that the value is computed from
    method: str  # how the interval is made, such as "bca-bootstrap"


def resampling_weights(n_units: int, replicates: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how often each unit is drawn in each bootstrap sample: multinomial counts ``[replicates, n_units]``.

    They are drawn once for each seed and ``n_units`` and shared by all SAEs and metrics, so that differences are
    paired.
    """
    return rng.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=replicates).astype(np.float64)


def ratio(num: NDArray[np.float64], den: NDArray[np.float64]) -> float:
    """Return ``sum(num) / sum(den)``, or NaN if the denominator is zero."""
    total = float(np.sum(den))
    return float(np.sum(num)) / total if total != 0.0 else float("nan")


def bootstrap_ratio(num: NDArray[np.float64], den: NDArray[np.float64], weights: NDArray[np.float64]) -> Estimate:
    """Return ``sum(num) / sum(den)`` with its BCa bootstrap interval (Efron 1987).

    The interval is NaN if there are fewer than two units. It is also NaN if the denominator of a replicate is zero or
    has another sign than that of the estimate: the ratio then passes through infinity, so no finite interval holds it.

    Args:
        num: The numerator of each unit, ``[n]``.
        den: The denominator of each unit, ``[n]``.
        weights: The bootstrap samples ``[replicates, n]`` of `resampling_weights`.
    """
    num, den = np.asarray(num, np.float64), np.asarray(den, np.float64)
    value = ratio(num, den)
    n = len(num)
    if n < 2 or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan, np.nan, n, "bca-bootstrap")
    denominators = weights @ den
    if np.any(denominators * den.sum() <= 0.0):
        return Estimate(value, np.nan, np.nan, np.nan, n, "bca-bootstrap")
    replicates = (weights @ num) / denominators
    spread = float(replicates.std(ddof=1))
    left_out = (num.sum() - num) / np.where(den.sum() - den == 0.0, np.nan, den.sum() - den)
    low, high = _bca(value, replicates, left_out)
    return Estimate(value, spread, low, high, n, "bca-bootstrap")


def _bca(value: float, replicates: NDArray[np.float64], left_out: NDArray[np.float64]) -> tuple[float, float]:
    scale = max(abs(value), float(np.abs(replicates).max()))
    if replicates.std() <= 1e-12 * scale:  # the ratio is the same in every sample, so the interval is a point
        return float(replicates.min()), float(replicates.max())
    tail = norm.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    below = np.clip(np.mean(replicates < value) + 0.5 * np.mean(replicates == value), 1e-6, 1 - 1e-6)
    bias = norm.ppf(below)
    centred = np.nanmean(left_out) - left_out
    cubes, squares = np.nansum(centred**3), np.nansum(centred**2)
    acceleration = cubes / (6.0 * squares**1.5) if squares > 0 else 0.0
    levels = norm.cdf(bias + (bias + tail) / (1 - acceleration * (bias + tail)))
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)


def mean_estimate(values: NDArray[np.float64]) -> Estimate:
    """Return the mean of independent values with its normal interval; NaN if there are none."""
    n = len(values)
    value = float(np.mean(values)) if n else float("nan")
    if n < 2:
        return Estimate(value, np.nan, np.nan, np.nan, n, "normal")
    stderr = float(np.std(values, ddof=1) / np.sqrt(n))
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * stderr
    return Estimate(value, stderr, value - half, value + half, n, "normal")


def weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Estimate:
    """Return the weighted mean of independent values with its normal interval; NaN if the weights sum to 0.

    The standard error is that of a ratio of sums, linearised: sqrt(n / (n - 1) sum (w (v - mean))^2) / sum w. For equal
    weights it is that of `mean_estimate`.

    Args:
        values: The values, ``[n]``.
        weights: The weight of each, 0 or more.
    """
    n, total = len(values), float(np.sum(weights))
    if not total > 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, n, "normal")
    value = float(np.sum(weights * values)) / total
    if n < 2:
        return Estimate(value, np.nan, np.nan, np.nan, n, "normal")
    stderr = float(np.sqrt(n / (n - 1) * np.sum(np.square(weights * (values - value))))) / total
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * stderr
    return Estimate(value, stderr, value - half, value + half, n, "normal")


def jackknife(value: float, left_out: NDArray[np.float64]) -> Estimate:
    """Return ``value`` with a normal interval from the values ``left_out[n]`` without each unit (Tukey's jackknife).

    It suits numbers of things that occur at least once, such as latents that are not dead. The bootstrap is biased
    there, because a resample holds only 63 % of the distinct units.
    """
    left_out = np.asarray(left_out, np.float64)
    n = len(left_out)
    if n < 2 or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan, np.nan, n, "jackknife")
    stderr = float(np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)))
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * stderr
    return Estimate(value, stderr, value - half, value + half, n, "jackknife")
