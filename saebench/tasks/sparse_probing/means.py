"""Means over datasets as measurements: the dataset is the unit of the interval and of paired comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.stats.intervals import bootstrap_ratio

Array = NDArray[np.float64]


def add_mean(
    output: TaskOutput,
    metric: str,
    values: Array,
    weights: Array,
    subset: str = "",
    not_scored: str = "no dataset is scored",
) -> None:
    """Mean of ``values[datasets]`` that are not NaN, or of ``values[datasets, settings]`` over all scored pairs.

    ``weights[replicates, datasets]`` are the bootstrap draws. All datasets are contributions, those that are not
    scored with denominator 0, so that SAEs are compared on the same ones.
    """
    table = values.reshape(len(values), -1)
    scored = np.isfinite(table)
    num, den = np.where(scored, table, 0.0).sum(1), scored.sum(1).astype(np.float64)
    add(output, metric, bootstrap_ratio(num, den, weights), "dataset", not_scored, subset, (num, den))
