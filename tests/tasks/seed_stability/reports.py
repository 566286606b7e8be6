"""A report without a language model, and what it took."""

from __future__ import annotations

from typing import cast

from saebench.evaluation import Report, TaskOutput
from saebench.passes.context import TaskContext
from saebench.tasks.seed_stability.task import SeedStabilityTask


def empty_report() -> Report:
    """For figures that are not bootstrapped: only the bootstrap asks the context."""
    return Report(SeedStabilityTask().card, cast(TaskContext, None))


def values(output: TaskOutput) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.subset): m.value for m in output.measurements}
