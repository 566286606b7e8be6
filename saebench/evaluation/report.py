"""The report of a task: it collects measurements with their uncertainty, and makes the task's output of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.cards.card import MetricSpec, TaskCard
from saebench.errors import SaebenchError, did_you_mean
from saebench.evaluation.task import TaskOutput
from saebench.passes.context import TaskContext
from saebench.results.record import Measurement
from saebench.results.units import OWN_UNITS, units_hash
from saebench.stats.intervals import Estimate, bootstrap_ratio, clipped

Array = NDArray[np.float64]
Ratio = tuple[Array, Array]  # numerator and denominator of each unit


class Report:
    """Collects the measurements, arrays, counts and notes of one SAE or group.

    A report refuses a metric that the card does not declare. A value that is not finite is not scored: the report keeps
    it as missing together with the reason, counts it, and never replaces it.

    >>> report = Report(card, context, replicates=2000)  # doctest: +SKIP
    >>> report.ratio("fvu", (errors, variances), unit="sequence", why="the activations do not vary")  # doctest: +SKIP
    >>> report.units("sequence", batch.content_hash)  # doctest: +SKIP
    >>> report.count("sequences", 64)  # doctest: +SKIP
    >>> return report.output()  # doctest: +SKIP
    """

    def __init__(self, card: TaskCard, context: TaskContext, replicates: int = 0) -> None:
        """Start an empty report.

        Args:
            card: The card of the task, which declares the metrics.
            context: The source of the bootstrap draws, which are the same for every SAE.
            replicates: The number of bootstrap samples behind the intervals of `ratio`; 0 if the task never calls it.
        """
        self._bounds = {metric.id: _bounds(metric) for metric in card.metrics}
        self._task = card.name
        self._context, self._replicates = context, replicates
        self._output = TaskOutput(measurements=[])

    def ratio(
        self, metric: str, parts: Ratio, *, unit: str, why: str, subset: str = "", weights: Array | None = None
    ) -> Estimate:
        """Add ``sum(numerators) / sum(denominators)`` over units, with its interval and contributions.

        The interval is that of `bootstrap_ratio`, which depends on the kind of number: the bounds of the metric on the
        card tell it what it may be. The interval does not leave these bounds.

        Args:
            metric: The metric's id on the card.
            parts: The numerator and the denominator of each unit, ``[units]`` each.
            unit: What a unit is, such as "sequence" or "document".
            why: The reason to give when the value is not finite.
            subset: The subset that the value describes; "" for everything.
            weights: Bootstrap draws ``[replicates, units]``; by default those of the context for this many units.
        """
        if weights is None:
            if not self._replicates:
                raise SaebenchError(
                    f"The report of task {self._task!r} needs a number of bootstrap replicates for {metric!r}: "
                    "Report(card, context, replicates)."
                )
            weights = self._context.bootstrap_weights(len(parts[0]), self._replicates)
        estimate = bootstrap_ratio(*parts, weights, self._bounds_of(metric))
        self.estimate(metric, estimate, unit=unit, why=why, subset=subset, parts=parts)
        return estimate

    def estimate(
        self,
        metric: str,
        estimate: Estimate,
        *,
        unit: str,
        why: str | None,
        subset: str = "",
        parts: Ratio | None = None,
    ) -> None:
        """Add a value whose interval the task computed itself. It is cut where it leaves the bounds of the card.

        Args:
            metric: The metric's id on the card.
            estimate: The value with its standard error and interval.
            unit: What a unit is.
            why: The reason to give when the value is not finite; None where it always is.
            subset: The subset that the value describes; "" for everything.
            parts: The numerator and denominator of each unit, if the value is a ratio of their sums. The arrays
                ``KEY.num`` and ``KEY.den`` keep them, where KEY is the metric, or ``metric/subset``.

        Raises:
            SaebenchError: The card declares no such metric.
        """
        estimate = clipped(estimate, self._bounds_of(metric))
        scored = bool(np.isfinite(estimate.value))
        key = subset_name(metric, subset)
        if parts is not None:
            self.array(f"{key}.num", parts[0])
            self.array(f"{key}.den", parts[1])
        self._output.measurements.append(
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
                contributions=key if parts is not None else None,
                not_scored=None if scored else why,
            )
        )

    def point(self, metric: str, value: float, n: int, *, unit: str, why: str | None, subset: str = "") -> None:
        """Add a value without an interval, computed from ``n`` units."""
        self.estimate(metric, Estimate(value, np.nan, np.nan, np.nan, n, "none"), unit=unit, why=why, subset=subset)

    def units(self, kind: str, content: object) -> None:
        """Say on which units of a kind the numbers were measured, so that only numbers on the same units are paired.

        Args:
            kind: What a unit is, such as "sequence": the ``unit`` of the numbers.
            content: What tells the units from others, in their order, as JSON values: texts, or hashes of tokens. It
                covers all units of the kind that the task measures on, and nothing of the SAE. Only its hash is kept.

        Raises:
            SaebenchError: The units are those of the SAE itself, or were given with another content before.
        """
        if kind in OWN_UNITS:
            raise SaebenchError(f"Task {self._task!r} names the content of its units {kind!r}, which each SAE has.")
        found = units_hash(content)
        if self._output.units.setdefault(kind, found) != found:
            raise SaebenchError(f"Task {self._task!r} names two contents of its units {kind!r}; name them all at once.")

    def array(self, name: str, values: NDArray[Any]) -> None:
        """Keep an array with the record, such as the density of each latent."""
        self._output.arrays[name] = values

    def count(self, name: str, value: int) -> None:
        """Keep a count with the record, such as the number of evaluated tokens."""
        self._output.counts[name] = value

    def note(self, name: str, value: Any) -> None:
        """Keep in the record what the task chose on the way, such as latents and strengths; JSON values only."""
        self._output.notes[name] = value

    def output(self) -> TaskOutput:
        """The collected output, with the number of measurements that are not scored among its counts."""
        self.count("not_scored", sum(number.value is None for number in self._output.measurements))
        return self._output

    def _bounds_of(self, metric: str) -> tuple[float, float]:
        if metric not in self._bounds:
            raise SaebenchError(
                f"The card of task {self._task!r} declares no metric {metric!r}.{did_you_mean(metric, self._bounds)}"
            )
        return self._bounds[metric]


def subset_name(*parts: str) -> str:
    """Join the parts that are not empty by slashes, as the names of subsets and arrays are written."""
    return "/".join(part for part in parts if part)


def _bounds(metric: MetricSpec) -> tuple[float, float]:
    low, high = metric.bounds
    return -np.inf if low is None else low, np.inf if high is None else high


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
