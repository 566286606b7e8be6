"""The lenses of an audit: pure functions from the values of a metric to figures (after arXiv 2605.18229).

Values are *oriented*: a higher value is better, so those of a metric of which lower is better come with the other sign.
NaN is a value that is not scored. It is left out and never replaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import norm, spearmanr

from saebench.cards.audits import Figure
from saebench.stats.intervals import CONFIDENCE

Array = NDArray[np.float64]
_TAIL = (1 - CONFIDENCE) / 2
_LEAST = 4  # fewer pairs give no interval of a rank correlation


@dataclass(frozen=True)
class Noise:
    """How much values change when an evaluation is repeated with other seeds.

    With y[i, r] of SAE i and seed r, a two-way analysis of variance splits the spread into SAEs, seeds and the rest.

    Attributes:
        run: The standard deviation of one SAE's value over seeds, pooled over SAEs.
        pair: The standard deviation of the rest. It is what remains when SAEs are compared on the same seed.
        reliable: The least difference of two SAEs, each measured once on the same seed, that noise alone exceeds in 5 %
            of the cases: 1.96 sqrt(2) ``pair``.
        share: The share of the spread between SAEs, measured once on the same seed, that is noise: 1 - ICC(C, 1)
            (McGraw and Wong 1996).
    """

    run: Figure
    pair: Figure
    reliable: Figure
    share: Figure


def noise(values: Array) -> Noise:
    """Return the noise of evaluations.

    Args:
        values: The value of each SAE under each seed, ``[saes, seeds]``. SAEs and then seeds with a NaN are left out.
    """
    y = _complete(np.asarray(values, float))
    n, k = y.shape
    if n < 1 or k < 2:
        unknown = Figure(value=None, n=n)
        return Noise(unknown, unknown, unknown, unknown)
    within = n * (k - 1)
    run = _deviation(float(np.sum((y - y.mean(1, keepdims=True)) ** 2)), within)
    if n < 2:
        return Noise(run, run, _reliable(run), Figure(value=None, n=n))
    rest = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + y.mean()
    free = (n - 1) * (k - 1)
    pair = _deviation(float(np.sum(rest**2)), free)
    between = k * float(np.var(y.mean(1), ddof=1))
    return Noise(run, pair, _reliable(pair), _noise_share(between, float(np.sum(rest**2)) / free, n, k))


def _complete(y: Array) -> Array:
    """Leave out SAEs that lack most seeds, and then the seeds that some SAE lacks."""
    y = y[np.isfinite(y).mean(1) > 0.5] if y.size else y
    return y[:, np.isfinite(y).all(0)] if y.size else y.reshape(0, 0)


def _deviation(squares: float, free: int) -> Figure:
    """Return the standard deviation from a sum of squares, with its chi-square interval."""
    from scipy.stats import chi2

    low, high = (math.sqrt(squares / float(chi2.isf(tail, free))) for tail in (_TAIL, 1 - _TAIL))
    return Figure(value=math.sqrt(squares / free), ci_low=low, ci_high=high, n=free)


def _reliable(deviation: Figure) -> Figure:
    factor = float(norm.isf(_TAIL)) * math.sqrt(2)
    values = (deviation.value, deviation.ci_low, deviation.ci_high)
    value, low, high = (None if one is None else factor * one for one in values)
    return Figure(value=value, ci_low=low, ci_high=high, n=deviation.n)


def _noise_share(between: float, rest: float, n: int, k: int) -> Figure:
    if between == 0 and rest == 0:
        return Figure(value=None, n=n)  # no SAE differs from another
    if rest == 0:
        return Figure(value=0.0, ci_low=0.0, ci_high=0.0, n=n)
    ratio, free = between / rest, ((n - 1), (n - 1) * (k - 1))

    def share(f: float) -> float:
        """1 - ICC for a ratio of mean squares; negative intraclass correlations count as none."""
        return min(1.0, k / (f + k - 1)) if f > 0 else 1.0

    low, high = (ratio / float(f_distribution.isf(tail, *free)) for tail in (_TAIL, 1 - _TAIL))
    return Figure(value=share(ratio), ci_low=share(high), ci_high=share(low), n=n)


def rank_correlation(known: Sequence[float], values: Sequence[float]) -> Figure:
    """Return Spearman's rank correlation with the interval of Bonett and Wright (2000).

    Args:
        known: The known quality of each SAE, for example.
        values: The values of the same SAEs.
    """
    pairs = np.array([known, values], float)
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    n = pairs.shape[1]
    if n < 3 or np.ptp(pairs[0]) == 0:
        return Figure(value=None, n=n)
    if np.ptp(pairs[1]) == 0:
        return Figure(value=0.0, ci_low=-1.0, ci_high=1.0, n=n)  # the metric tells none of them apart
    rho = float(spearmanr(pairs[0], pairs[1]).statistic)
    if n < _LEAST:
        return Figure(value=rho, n=n)
    half = float(norm.isf(_TAIL)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    z = math.atanh(min(max(rho, -1 + 1e-12), 1 - 1e-12))
    return Figure(value=rho, ci_low=math.tanh(z - half), ci_high=math.tanh(z + half), n=n)


def separation(good: Sequence[float], bad: Sequence[float]) -> Figure:
    """Return the share of pairs in which the good SAE has the higher value; ties count half (the AUROC)."""
    a, b = (_scored(values) for values in (good, bad))
    if not (len(a) and len(b)):
        return Figure(value=None, n=0)
    higher = np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b))
    return Figure(value=float(higher), n=len(a) * len(b))


def effect_size(good: Sequence[float], bad: Sequence[float], deviation: float | None) -> Figure:
    """Return the difference of the means of two kinds of SAEs in standard deviations of one evaluation."""
    a, b = (_scored(values) for values in (good, bad))
    if not (len(a) and len(b)) or not deviation:
        return Figure(value=None, n=min(len(a), len(b)))
    return Figure(value=float((a.mean() - b.mean()) / deviation), n=len(a) + len(b))


def not_below(values: Mapping[str, float], limit: float) -> list[str]:
    """Return the SAEs whose value reaches ``limit``, the best first."""
    reached = [name for name, value in values.items() if value >= limit]
    return sorted(reached, key=lambda name: (-values[name], name))


def largest_shift(before: Mapping[str, float], after: Mapping[str, float]) -> Figure:
    """Return the largest absolute difference of the values of the same SAE under two ways of computing."""
    shared = [(before[name], after[name]) for name in before if name in after]
    finite = [abs(a - b) for a, b in shared if math.isfinite(a) and math.isfinite(b)]
    lost = any(math.isfinite(a) != math.isfinite(b) for a, b in shared)
    if lost or not finite:
        return Figure(value=None, n=len(finite))
    return Figure(value=max(finite), n=len(finite))


def _scored(values: Sequence[float]) -> Array:
    array = np.asarray(values, float)
    return array[np.isfinite(array)]
