"""Intervals over training runs, from the values of runs or of pairs of runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import t

from saebench.stats.intervals import CONFIDENCE, Estimate

Pair = tuple[int, int]


def over_runs(values: Mapping[Pair, tuple[float, float]]) -> Estimate:
    """Return ``sum(num) / sum(den)`` over pairs of runs, with a jackknife interval over the runs.

    Pairs that share a run are not independent, so the jackknife leaves out a run with all its pairs. The interval is
    Student's, with runs - 1 degrees of freedom, because runs are few. With two runs there is no interval. The
    estimate's ``n`` is the number of runs.

    Args:
        values: The numerator and the denominator of each pair, ``{(run, run): (num, den)}``.
    """
    runs = sorted({run for pair in values for run in pair})
    value = _ratio(values)
    if len(runs) < 3 or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan, np.nan, len(runs), "jackknife-t")
    left_out = np.array([_ratio({p: v for p, v in values.items() if run not in p}) for run in runs])
    n = len(runs)
    stderr = float(np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2)))
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stderr
    return Estimate(value, stderr, value - half, value + half, n, "jackknife-t")


def over_each(values: Mapping[int, float]) -> Estimate:
    """Return the mean of one value per run with Student's interval over runs, without values that are not finite."""
    finite = np.array([value for value in values.values() if np.isfinite(value)])
    n = len(finite)
    value = float(finite.mean()) if n else float("nan")
    if n < 2:
        return Estimate(value, np.nan, np.nan, np.nan, n, "student-t")
    stderr = float(finite.std(ddof=1) / np.sqrt(n))
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stderr
    return Estimate(value, stderr, value - half, value + half, n, "student-t")


def _ratio(values: Mapping[Pair, tuple[float, float]]) -> float:
    num, den = (sum(pair[part] for pair in values.values()) for part in (0, 1))
    return num / den if den else float("nan")
