"""The bootstrap-t interval of a ratio of sums over units, and the standard error that it is made with.

A ratio is linear in its units to first order: unit u moves it by e_u / sum(den), where e_u = num_u - ratio den_u. The
spread of these moves gives the standard error. The *bootstrap-t* asks how far off, in standard errors, the ratio is
when the units are drawn anew, where each sample has its own standard error, and applies this to the units at hand. It
follows the skewness of the units to second order, as BCa does, but also knows that the standard error itself is
uncertain, which BCa does not (Efron and Tibshirani 1993, chapters 12 and 22).

Where a few units have most of the denominator, samples say too little about this. There, Student's t with the degrees
of freedom of Bell and McCaffrey (2002) is wider. The interval reaches, on each side, as far as the wider of the two.
``docs/intervals.md`` shows how often it holds the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saebench.stats.estimate import (
    CONFIDENCE,
    MIN_UNITS,
    Estimate,
    student_quantile,
    with_caveat,
    without_interval,
)

METHOD = "bootstrap-t"
_FARTHEST = 4.0  # an end is at most so many times as far from the value as Student's t with n - 1 puts it
_SAME = 1e-12  # relative; what differs by less differs by rounding

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Linearised:
    """A ratio of sums in terms of its units, all in the unit of the ratio."""

    value: float
    moves: Array  # [n]: how far each unit moves the ratio, e_u / sum(den)
    shares: Array  # [n]: den_u / sum(den)
    stderr: float  # corrected for unequal denominators; NaN where leaving out a unit turns the denominator's sign
    df: float  # the degrees of freedom of ``stderr``

    @property
    def alike(self) -> bool:
        """Whether every unit has the same ratio, up to rounding."""
        return bool(np.max(np.abs(self.moves)) <= _SAME * np.max(np.abs(self.moves + self.value * self.shares)))


def linearise(num: Array, den: Array) -> Linearised:
    """Linearise ``sum(num) / sum(den)``, which must be finite, over two or more units.

    The standard error is sqrt(sum e_u^2 / (1 - h_u)) / |sum(den)| with h_u = den_u / sum(den), "HC2": it is unbiased if
    the variance of e_u / den_u is the same for all units. Its degrees of freedom are those for which it has the right
    variance if e_u / den_u is normal (Bell and McCaffrey, Survey Methodology 2002). For
    equal denominators these are the standard error of a mean and n - 1.
    """
    total = float(den.sum())
    value = float(num.sum()) / total
    shares = den / total
    moves = num / total - value * shares
    left = 1.0 - shares  # what is left of the denominator without each unit
    if not (left > 0).all():
        return Linearised(value, moves, shares, float("nan"), float("nan"))
    stderr = float(np.sqrt(np.sum(moves**2 / left)))
    # The variance is the quadratic form of a matrix a_u a_v (1[u = v] - h_u - h_v + sum h^2) with a_u^2 = h_u^2 / left.
    squares, a2 = float(np.sum(shares**2)), shares**2 / left
    own = a2 * (1 - 2 * shares + squares)
    s0, s1, s2 = (float(np.sum(a2 * shares**power)) for power in range(3))
    every = (s0 * squares) ** 2 - 4 * squares * s0 * s1 + 2 * s0 * s2 + 2 * s1**2
    off_diagonal = every - float(np.sum((a2 * (squares - 2 * shares)) ** 2))
    df = float(np.sum(own)) ** 2 / (off_diagonal + float(np.sum(own**2)))
    return Linearised(value, moves, shares, stderr, min(df, len(num) - 1.0))


def bootstrap_t(linear: Linearised, weights: Array) -> Estimate:
    """Return the ratio with its interval; NaN where `MIN_UNITS` says so, or where the ratio passes through infinity.

    Args:
        linear: The ratio, over units that have a denominator and are not all alike.
        weights: How often each of its units is drawn in each sample, ``[replicates, units]``.
    """
    units = len(linear.moves)
    columns = np.stack([linear.shares, linear.moves], axis=1)
    scale = float(np.max(np.abs(linear.moves)))
    columns[:, 1] /= scale
    share, move = columns.T
    products = np.stack([share, move, move * move, move * share, share * share], axis=1)
    drawn = weights[weights.any(axis=1)] @ products
    total = drawn[:, 0]
    if units < MIN_UNITS or not np.isfinite(linear.stderr) or not len(total) or (total <= 0).any():
        return without_interval(linear.value, units, METHOD)
    off = drawn[:, 1] / total
    squares = drawn[:, 2] - 2 * off * drawn[:, 3] + off**2 * drawn[:, 4]
    small = units / (units - 1)
    stderr = float(np.sqrt(small * np.sum(move * move)))
    stderrs = np.sqrt(small * np.maximum(squares, 0.0)) / total
    farthest = _FARTHEST * student_quantile(units - 1)
    known = stderrs > 1e-6 * stderr  # in other samples all units are the same one, or alike
    t = np.where(known, off / np.where(known, stderrs, 1.0), np.sign(off) * farthest)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.clip(t, -farthest, farthest), [tail, 1 - tail])
    half = student_quantile(linear.df) * linear.stderr
    return Estimate(
        linear.value,
        linear.stderr,
        linear.value - max(half, float(high) * stderr * scale),
        linear.value + max(half, -float(low) * stderr * scale),
        units,
        with_caveat(METHOD, units),
    )
