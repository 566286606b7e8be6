"""Running the calls of an audit, and the values that came of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saebench.audit.calls import Call, Purpose, Where
from saebench.cards.card import MetricSpec, TaskCard
from saebench.progress import Progress
from saebench.results.record import GROUP, Record, Status

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Number:
    """One value of a metric. It is NaN where it is not scored."""

    where: Where
    purpose: Purpose
    sae: str  # the reference; of a group, ``NAME=REF,REF``
    seed: int
    value: float


@dataclass
class Values:
    """The values of one metric, oriented: higher is better.

    Attributes:
        metric: What the card says about it.
        subset: The subset that is audited.
        numbers: The values.
    """

    metric: MetricSpec
    subset: str
    numbers: list[Number] = field(default_factory=list)

    def of(self, where: Where, purpose: Purpose, references: Iterable[str], seed: int) -> dict[str, float]:
        """Return the values of SAEs, without those that have no value at all (their task does not apply)."""
        known = {n.sae: n.value for n in self.numbers if (n.where, n.purpose, n.seed) == (where, purpose, seed)}
        return {reference: known[reference] for reference in references if reference in known}

    def scored(self, where: Where, references: Iterable[str], seed: int) -> dict[str, float]:
        """Return the finite values of SAEs under the first seed."""
        return {sae: value for sae, value in self.of(where, "values", references, seed).items() if math.isfinite(value)}

    def over_seeds(self, where: Where, references: Iterable[str]) -> Array:
        """Return the values ``[saes, seeds]`` of SAEs that were measured, with NaN where one is missing."""
        rows: dict[str, dict[int, float]] = {}
        for number in self.numbers:
            if number.where == where and number.purpose in ("values", "seeds"):
                rows.setdefault(number.sae, {})[number.seed] = number.value
        wanted = [rows[reference] for reference in references if reference in rows]
        seeds = sorted({seed for row in wanted for seed in row})
        return np.array([[row.get(seed, math.nan) for seed in seeds] for row in wanted]).reshape(len(wanted), -1)


def run(calls: Iterable[Call], out: Path, progress: Progress) -> list[tuple[Call, Record]]:
    """Run the calls, and return their records. Those that exist already are not measured again.

    Raises:
        SaebenchError: What stops a whole run: the model or the inputs of the task cannot be used.
        KeyboardInterrupt: The user stopped it. What was measured is kept.
    """
    from saebench.runner.execute import execute
    from saebench.runner.plan import make_plan
    from saebench.runner.request import make_request

    measured = []
    for call in calls:
        plan = make_plan(make_request({**call.options, "out": call.folder(out)}))
        summary = execute(plan, progress)
        if summary.interrupted:
            raise KeyboardInterrupt
        measured += [(call, record) for record in summary.records]
    return measured


def values(card: TaskCard, measured: Iterable[tuple[Call, Record]]) -> list[Values]:
    """Return the values of the primary metrics, each on all of the data or, where there is no such value, by subset."""
    measured = list(measured)
    found = {}
    for metric in (spec for spec in card.metrics if spec.primary):
        subsets = dict.fromkeys(
            number.subset for _, record in measured for number in record.measurements if number.metric == metric.id
        )
        for subset in [""] if "" in subsets else subsets:
            found[metric.id, subset] = Values(metric, subset)
    for call, record in measured:
        if record.status is not Status.OK:
            continue
        for number in record.measurements:
            entry = found.get((number.metric, number.subset))
            if entry is None:
                continue
            sign = -1.0 if entry.metric.higher_is_better is False else 1.0
            value = math.nan if number.value is None else sign * number.value
            sae = record.identity.sae.removeprefix(GROUP)
            entry.numbers.append(Number(call.where, call.purpose, sae, record.identity.seed, value))
    return list(found.values())


def failures(measured: Iterable[tuple[Call, Record]]) -> list[str]:
    """Return a sentence for each record that failed. Tasks that do not apply to an SAE are no failures."""
    return [
        f"{record.identity.task} {record.identity.sae} (seed {record.identity.seed}): {record.error}"
        for _, record in measured
        if record.status is Status.FAILED
    ]
