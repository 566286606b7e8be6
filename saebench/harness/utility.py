"""lm-eval's scores of a language model under an intervention, for each example, which show what it breaks."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from saebench.errors import UsageError, did_you_mean
from saebench.harness import TASKS, require_lm_eval
from saebench.lm.model import LanguageModel

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

    from saebench.interventions.base import Intervention


@dataclass(frozen=True)
class Utility:
    """The scores of a task. With the same task, limit and seed, the examples are the same, so scores can be paired."""

    task: str
    version: str
    metrics: dict[str, float]  # as lm-eval aggregates them
    per_example: dict[str, NDArray[np.float64]]  # one number for each example, such as acc and margin
    examples: tuple[str, ...]  # the hash of each example


def evaluate_utility(
    lm: LanguageModel,
    intervention: Intervention | None,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    num_fewshot: int = 0,
    batch_size: int = 8,
    seed: int = 0,
) -> dict[str, Utility]:
    """Return the scores of a language model on tasks of lm-eval, by the name of the task.

    Multiple-choice tasks have a ``margin`` for each example: the log-probability of the right answer minus that of the
    most probable wrong one, in nats. Only lm-eval's own tasks need the network. No progress is shown, and global random
    generators keep their states.

    Args:
        lm: The language model.
        intervention: An intervention, or None.
        tasks: Names that lm-eval knows, including saebench's own. Tags and groups stand for their tasks.
        limit: The number of examples of each task, which are its first ones; by default all of them.
        num_fewshot: The number of examples in a prompt.
        batch_size: The number of requests that are computed at a time.
        seed: The seed of the examples in prompts and of sampling.

    Raises:
        UsageError: lm-eval is not installed, there is no task, or a task is unknown.
    """
    require_lm_eval()
    import lm_eval

    from saebench.harness.model import SaebenchLM

    with _quiet(), _generators_kept():
        loaded = _manager(tasks).load(list(tasks))
        for task in loaded["tasks"].values():
            task.set_config("num_fewshot", num_fewshot)
            task.set_fewshot_seed(seed)
        random.seed(seed)
        torch.manual_seed(seed)
        model = SaebenchLM(lm, intervention=intervention, batch_size=batch_size)
        results = lm_eval.evaluate(model, loaded, limit=limit, bootstrap_iters=0, log_samples=True)
    return {
        name: _utility(name, results["results"][name], samples, str(results["versions"].get(name)))
        for name, samples in results["samples"].items()
    }


def _manager(tasks: Sequence[str]) -> TaskManager:
    """Return a TaskManager that knows saebench's tasks, and lm-eval's if there are others, which takes seconds."""
    from lm_eval.tasks import TaskManager

    if not tasks:
        raise UsageError("Name at least one lm-eval task, such as saebench_sciq.")
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    if set(tasks) <= set(manager.all_tasks):
        return manager
    manager = TaskManager(include_path=str(TASKS))
    check_tasks(tasks, manager.all_tasks)
    return manager


def check_tasks(tasks: Sequence[str], known: Sequence[str]) -> None:
    """Raise UsageError, with a suggestion, if a task is not known."""
    for task in tasks:
        if task not in known:
            raise UsageError(f"lm-eval knows no task {task!r}.{did_you_mean(task, known)}")


def _utility(name: str, result: dict[str, Any], samples: list[dict[str, Any]], version: str) -> Utility:
    metrics, per_example = {}, {}
    for key, value in result.items():
        metric, comma, filter_ = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        label = metric if filter_ == "none" else key
        metrics[label] = float(value)
        values = [sample.get(metric) for sample in samples if sample["filter"] == filter_]
        if all(isinstance(value, int | float) for value in values):  # otherwise lm-eval's metric is not a mean
            per_example[label] = np.array(values, dtype=np.float64)
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    if all(_is_choice(sample) for sample in first):
        per_example["margin"] = np.array([_margin(sample) for sample in first])
    return Utility(name, version, metrics, per_example, tuple(sample["doc_hash"] for sample in first))


def _is_choice(sample: dict[str, Any]) -> bool:
    """Return whether one of several answers is right and each of them has a log-likelihood."""
    answers = sample["filtered_resps"]
    have_likelihoods = all(isinstance(answer, tuple) for answer in answers)
    return isinstance(sample["target"], int) and len(answers) > 1 and have_likelihoods


def _margin(sample: dict[str, Any]) -> float:
    likelihoods = [float(answer[0]) for answer in sample["filtered_resps"]]
    gold = sample["target"]
    return likelihoods[gold] - max(likelihoods[:gold] + likelihoods[gold + 1 :])


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Restore the global random generators: tasks draw from Python's, and sampling draws from torch's."""
    state = random.getstate()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress bars and all log lines but errors."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        logger.setLevel(level)
