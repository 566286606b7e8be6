"""The few numbers that are computed from seconds: ratios and exponents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median


def ratio_of_medians(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the ratio of the medians of two series that were measured alternately.

    Raises:
        ValueError: A series is empty, or the denominator's median is not above 0.
    """
    bottom = median(denominator)
    if not bottom > 0:
        raise ValueError(f"cannot divide by a median of {bottom:g}")
    return median(numerator) / bottom


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of log(value) against log(size) by least squares: 1 for linear, 0 for constant values.

    Fixed costs flatten the slope, so `last_doubling` is reported, too.

    Raises:
        ValueError: There are fewer than two different sizes, or a number is not positive.
    """
    if len(sizes) != len(values) or len(set(sizes)) < 2:
        raise ValueError("an exponent needs values at two or more different sizes")
    if min(*sizes, *values) <= 0:
        raise ValueError("sizes and values must be positive")
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def last_doubling(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent between the two largest sizes, where fixed costs weigh least."""
    order = sorted(range(len(sizes)), key=lambda index: sizes[index])[-2:]
    return exponent([sizes[index] for index in order], [values[index] for index in order])
