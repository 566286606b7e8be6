"""A value with its uncertainty, and what is known about how often its interval holds the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
MIN_UNITS = 6  # fewer units give no interval: see docs/intervals.md

# The coverage that intervals of a few units have in the worst case of docs/intervals.md: units that are very skewed
# (lognormal with a standard deviation of 1, or scores that are almost all near 0). Pairs of a number of units, below
# which it holds, and the coverage in percent. From the last number on it is 93 % and more.
SKEWED_COVERAGE: dict[str, tuple[tuple[int, int], ...]] = {
    "bootstrap-t": ((8, 80), (12, 87), (32, 91)),
    "student-t": ((12, 68), (32, 80), (128, 88), (256, 91)),
}


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and 95 % interval, which are NaN where there is none."""

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    n: int  # the number of units that the value is computed from
    method: str  # how the interval is made, such as "bootstrap-t"


def without_interval(value: float, n: int, method: str) -> Estimate:
    """Return a value that has no interval."""
    return Estimate(value, np.nan, np.nan, np.nan, n, method)


def student(value: float, stderr: float, df: float, n: int, method: str) -> Estimate:
    """Return a value with the interval of Student's t with ``df`` degrees of freedom."""
    half = student_quantile(df) * stderr
    return Estimate(value, stderr, value - half, value + half, n, method)


def student_quantile(df: float) -> float:
    """Return the quantile of Student's t beyond which 2.5 % lie."""
    return float(stdtrit(df, (1 + CONFIDENCE) / 2))


def with_caveat(method: str, n: int) -> str:
    """Name a method together with the coverage of `SKEWED_COVERAGE`, where that is below 93 % for ``n`` units."""
    for below, percent in SKEWED_COVERAGE.get(method, ()):
        if n < below:
            return f"{method} (n below {below}: covers about {percent} % where few units decide)"
    return method
