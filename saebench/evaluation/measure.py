"""Estimates into a task's output: the measurement, and the contributions behind it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation.task import TaskOutput
from saebench.results.record import Measurement
from saebench.stats.intervals import Estimate

Contributions = tuple[NDArray[np.float64], NDArray[np.float64]]


def add(
    output: TaskOutput,
    metric: str,
    estimate: Estimate,
    unit: str,
    not_scored: str | None,
    subset: str = "",
    contributions: Contributions | None = None,
) -> None:
    """Append ``estimate`` to ``output``; a value that is not finite counts as not scored, for the reason given.

    ``contributions`` are (numerator, denominator) per unit, kept in the arrays ``<key>.num`` and ``<key>.den``, where
    the key is the metric, or ``metric/subset``.
    """
    scored = bool(np.isfinite(estimate.value))
    key = f"{metric}/{subset}" if subset else metric
    if contributions is not None:
        num, den = contributions
        output.arrays |= {f"{key}.num": num, f"{key}.den": den}
    output.measurements.append(
        Measurement(
            metric=metric,
            subset=subset,
            value=estimate.value if scored else None,
            stderr=_finite(estimate.stderr),
            ci_low=_finite(estimate.ci_low),
            ci_high=_finite(estimate.ci_high),
            n=estimate.n,
            unit=unit,
            interval=estimate.method,
            contributions=key if contributions is not None else None,
            not_scored=None if scored else not_scored,
        )
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
