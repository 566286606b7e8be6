"""Kinds of numbers whose true value is known, and the intervals that are compared on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from saebench.stats.intervals import UNBOUNDED, bootstrap_ratio, weighted_mean

Array = NDArray[np.float64]
Bounds = tuple[float, float]
Ends = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """A kind of number: its units, the truth, and the bounds of its metric."""

    name: str
    draw: Callable[[np.random.Generator, int], tuple[Array, Array]]  # the numerators and denominators of n units
    truth: float
    bounds: Bounds = UNBOUNDED


def _mean(
    draw: Callable[[np.random.Generator, int], Array],
) -> Callable[[np.random.Generator, int], tuple[Array, Array]]:
    return lambda rng, n: (draw(rng, n), np.ones(n))


def _lognormal(rng: np.random.Generator, n: int, spread: float) -> Array:
    return rng.lognormal(-(spread**2) / 2, spread, n)


def _ratio(lengths: float, spread: float) -> Callable[[np.random.Generator, int], tuple[Array, Array]]:
    def draw(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        den = _lognormal(rng, n, lengths)
        return den * _lognormal(rng, n, spread), den

    return draw


def _recovered(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    difficulty = rng.gamma(4, 1.0, n)
    den = 2 * difficulty + rng.normal(0, 0.5, n)
    return 0.9 * den + 0.6 * rng.normal(0, 1, n) * np.sqrt(difficulty), den


def _differences(gain: float, loss: float) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, n: np.asarray(rng.choice([-1.0, 0.0, 1.0], size=n, p=[loss, 1 - gain - loss, gain]), float)


def _hits(share: float) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, n: (rng.random(n) < share).astype(np.float64)


CASES = (
    Case("mean, normal", _mean(lambda rng, n: rng.normal(1, 1, n)), 1.0),
    Case("mean, heavy tails (t, 3 degrees of freedom)", _mean(lambda rng, n: rng.standard_t(3, n)), 0.0),
    Case("mean of scores near 1 (beta 9, 1.5)", _mean(lambda rng, n: rng.beta(9, 1.5, n)), 9 / 10.5, (0.0, 1.0)),
    Case("mean of 0, 1/2 and 1", _mean(lambda rng, n: rng.choice([0, 0.5, 1], n, p=[0.6, 0.3, 0.1])), 0.25, (0.0, 1.0)),
    Case("mean, skewed (lognormal 0.5)", _mean(lambda rng, n: _lognormal(rng, n, 0.5)), 1.0),
    Case("mean, very skewed (lognormal 1)", _mean(lambda rng, n: _lognormal(rng, n, 1.0)), 1.0),
    Case("mean of scores near 0 (beta 0.1, 1)", _mean(lambda rng, n: rng.beta(0.1, 1, n)), 0.1 / 1.1, (0.0, 1.0)),
    Case("ratio, unequal lengths (lognormal 0.5)", _ratio(0.5, 0.5), 1.0),
    Case("ratio, few long units (lognormal 1)", _ratio(1.0, 0.5), 1.0),
    Case("ratio of differences (CE recovered)", _recovered, 0.9),
    Case("share 0.14", _mean(_hits(0.14)), 0.14, (0.0, 1.0)),
    Case("share 0.03", _mean(_hits(0.03)), 0.03, (0.0, 1.0)),
    Case("difference of shares, 0.14 gain, 0.05 lose", _mean(_differences(0.14, 0.05)), 0.09, (-1.0, 1.0)),
    Case("difference of shares, 0.03 gain", _mean(_differences(0.03, 0.0)), 0.03, (-1.0, 1.0)),
)


def bca(num: Array, den: Array, weights: Array) -> Ends:
    """Return the BCa bootstrap interval (Efron 1987), which saebench had before; a point where no sample differs."""
    totals = weights @ den
    value = float(num.sum() / den.sum())
    if (totals * den.sum() <= 0).any():
        return float("nan"), float("nan")
    replicates = (weights @ num) / totals
    if replicates.std() <= 1e-12 * np.abs(replicates).max():
        return value, value
    below = np.clip(np.mean(replicates < value) + 0.5 * np.mean(replicates == value), 1e-6, 1 - 1e-6)
    bias, tail = norm.ppf(below), norm.ppf([0.025, 0.975])
    left_out = (num.sum() - num) / (den.sum() - den)
    centred = left_out.mean() - left_out
    squares = np.sum(centred**2)
    acceleration = np.sum(centred**3) / (6 * squares**1.5) if squares > 0 else 0.0
    levels = norm.cdf(bias + (bias + tail) / (1 - acceleration * (bias + tail)))
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)


def ours(num: Array, den: Array, weights: Array, bounds: Bounds) -> Ends:
    """Return the interval of `bootstrap_ratio`."""
    found = bootstrap_ratio(num, den, weights, bounds)
    return found.ci_low, found.ci_high


def student(num: Array, den: Array) -> Ends:
    """Return the interval of `weighted_mean`, Student's t."""
    found = weighted_mean(num / den, den)
    return found.ci_low, found.ci_high
