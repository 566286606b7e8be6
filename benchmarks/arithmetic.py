"""From seconds to the few numbers that are reported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median


def ratio_of_medians(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Median over median of two series measured in turns. Raises ValueError for no values or a median of 0."""
    bottom = median(denominator)
    if not bottom > 0:
        raise ValueError(f"cannot divide by a median of {bottom:g}")
    return median(numerator) / bottom


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log(value) against log(size), least squares: 1 is linear, 0 is constant.

    Fixed costs flatten the slope, which is why `last_doubling` is reported beside it. Raises ValueError for fewer
    than two different sizes and for anything that is not positive.
    """
    if len(sizes) != len(values) or len(set(sizes)) < 2:
        raise ValueError("an exponent needs values at two different sizes at least")
    if min(*sizes, *values) <= 0:
        raise ValueError("sizes and values must be positive")
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def last_doubling(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent between the two largest sizes, where fixed costs weigh least."""
    order = sorted(range(len(sizes)), key=lambda index: sizes[index])[-2:]
    return exponent([sizes[index] for index in order], [values[index] for index in order])
