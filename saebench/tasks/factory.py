"""From a task's name to its implementation: the classes of the built-in tasks, and those of plug-ins."""

from __future__ import annotations

from typing import Any

from saebench.cards.registry import mismatch, registry
from saebench.errors import SaebenchError
from saebench.evaluation import GroupTask, SAETask, Settings, Task
from saebench.tasks.concept_separability.task import ConceptSeparabilityTask
from saebench.tasks.concept_suppression.task import ConceptSuppressionTask
from saebench.tasks.core.task import CoreTask
from saebench.tasks.dark_matter.task import DarkMatterTask
from saebench.tasks.detox.task import DetoxTask
from saebench.tasks.ground_truth.task import GroundTruthTask
from saebench.tasks.joint_splice.task import JointSpliceTask
from saebench.tasks.language_steering.task import LanguageSteeringTask
from saebench.tasks.seed_stability.task import SeedStabilityTask
from saebench.tasks.sparse_probing.task import SparseProbingTask
from saebench.tasks.unlearning.task import UnlearningTask

_BUILT_IN: dict[str, type[Task[Any]]] = {
    task.name: task
    for task in (
        CoreTask,
        ConceptSeparabilityTask,
        ConceptSuppressionTask,
        DarkMatterTask,
        DetoxTask,
        GroundTruthTask,
        JointSpliceTask,
        LanguageSteeringTask,
        SeedStabilityTask,
        SparseProbingTask,
        UnlearningTask,
    )
}


def implementation(name: str) -> type[Task[Any]]:
    """The class of the task ``name``.

    Raises UsageError for a task that does not exist or is broken, SaebenchError for a class that contradicts its card.
    """
    task = registry().plug_in(name) or _BUILT_IN.get(name)
    if task is None:
        raise SaebenchError(f"Task {name!r} has a card, but saebench/tasks/factory.py does not list its class.")
    problem = mismatch(task, registry().card(name))
    if not problem and not issubclass(task, SAETask | GroupTask):
        problem = "the class is no subclass of saebench.evaluation.SAETask or GroupTask"
    if problem:
        raise SaebenchError(f"Task {name!r} ({task.__module__}:{task.__qualname__}) does not fit its card: {problem}.")
    return task


def create(name: str) -> Task[Any]:
    """A new instance of the task ``name``. Raises as `implementation` does."""
    return implementation(name)()


def resolve(name: str, preset: str, overrides: dict[str, Any] | None = None) -> Settings:
    """The settings of the task ``name``: the card's defaults, then those of ``preset``, then ``overrides``.

    Raises UsageError for an unknown task, preset or setting and for a value that breaks a rule.
    """
    return implementation(name).settings.parse(registry().card(name).resolve(preset, overrides), task=name)
