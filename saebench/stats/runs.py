"""Intervals over training runs, from the values of runs or of pairs of runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saebench.stats.estimate import Estimate, student, without_interval

Pair = tuple[int, int]


def over_runs(values: Mapping[Pair, tuple[float, float]]) -> Estimate:
    """Return ``sum(num) / sum(den)`` over pairs of runs, with a jackknife interval over the runs.

    Pairs that share a run are not independent, so the jackknife leaves out a run with all its pairs. The interval is
    Student's, with runs - 1 degrees of freedom, because runs are few. With two runs, and where leaving out any run
    changes nothing, there is no interval. The estimate's ``n`` is the number of runs.

    Args:
        values: The numerator and the denominator of each pair, ``{(run, run): (num, den)}``.
    """
    runs = sorted({run for pair in values for run in pair})
    value = _ratio(values)
    if len(runs) < 3 or not np.isfinite(value):
        return without_interval(value, len(runs), "jackknife-t")
    left_out = np.array([_ratio({p: v for p, v in values.items() if run not in p}) for run in runs])
    n = len(runs)
    if _alike(left_out):
        return without_interval(value, n, "jackknife-t")
    stderr = float(np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)))
    return student(value, stderr, n - 1, n, "jackknife-t")


def over_each(values: Mapping[int, float]) -> Estimate:
    """Return the mean of one value per run with Student's interval over runs, without values that are not finite.

    There is no interval for a single run, nor where all runs have the same value.
    """
    finite = np.array([value for value in values.values() if np.isfinite(value)])
    n = len(finite)
    value = float(finite.mean()) if n else float("nan")
    if n < 2 or _alike(finite):
        return without_interval(value, n, "student-t")
    return student(value, float(finite.std(ddof=1) / np.sqrt(n)), n - 1, n, "student-t")


def _alike(values: NDArray[np.float64]) -> bool:
    """Whether the values differ by no more than rounding, so that their spread says nothing about other runs."""
    return bool(np.ptp(values) <= 1e-12 * np.max(np.abs(values)))


def _ratio(values: Mapping[Pair, tuple[float, float]]) -> float:
    num, den = (sum(pair[part] for pair in values.values()) for part in (0, 1))
    return num / den if den else float("nan")
