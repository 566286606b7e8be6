"""The plan: which jobs a request means, in an order in which work is shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saebench.data.text_ref import parse_text_ref
from saebench.errors import UsageError, did_you_mean
from saebench.lm.reference import LMRef, parse_lm_ref
from saebench.lm.site import parse_site
from saebench.runner.request import RunRequest
from saebench.sae.reference import SAERef, parse_sae_ref
from saebench.sae.zoo import zoo_names
from saebench.tasks.cards import PRESETS
from saebench.tasks.registry import registry

CONTROLS = ("baseline:pca?k=32", "baseline:random?d_sae=2048&l0=32")


@dataclass(frozen=True)
class TaskPlan:
    """A task with everything that decides its numbers."""

    name: str
    version: int
    preset: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One SAE, one task, one seed."""

    sae: SAERef
    task: TaskPlan
    seed: int


@dataclass(frozen=True)
class Plan:
    """All jobs of a request: seed by seed, SAE by SAE, so that clean passes and loaded SAEs are shared."""

    request: RunRequest
    model: LMRef
    tasks: tuple[TaskPlan, ...]
    saes: tuple[SAERef, ...]
    jobs: tuple[Job, ...]


def default_saes() -> list[str]:
    """The embedded default: the zoo, and a control of each kind."""
    names = zoo_names()
    if not names:
        raise UsageError("This installation has no zoo; name an SAE with --sae.")
    return [f"zoo:{name}" for name in names] + [*CONTROLS, f"baseline:permuted-decoder(zoo:{names[0]})"]


def make_plan(request: RunRequest) -> Plan:
    """Resolve names and references without loading anything. Raises UsageError, and HookMismatchError for `hook`."""
    # A suite is every task at the preset of the same name.
    if request.suite not in PRESETS:
        known = ", ".join(PRESETS)
        raise UsageError(
            f"There is no suite {request.suite!r}; suites are {known}.{did_you_mean(request.suite, PRESETS)}"
        )
    preset = request.preset or request.suite
    if request.hook is not None:
        parse_site(request.hook)
    names = request.tasks or registry().names()
    for name in request.parameters:
        if name not in names:
            raise UsageError(f"parameters.{name}: that task is not part of this run.{did_you_mean(name, names)}")
    tasks = tuple(_task_plan(request, name, preset) for name in dict.fromkeys(names))
    for task in tasks:
        if "text" in task.parameters:
            parse_text_ref(task.parameters["text"])
    saes = tuple(dict.fromkeys(parse_sae_ref(ref) for ref in request.sae or default_saes()))
    jobs = tuple(Job(sae, task, seed) for seed in dict.fromkeys(request.seed) for sae in saes for task in tasks)
    return Plan(request, parse_lm_ref(request.model), tasks, saes, jobs)


def _task_plan(request: RunRequest, name: str, preset: str) -> TaskPlan:
    card = registry().card(name)
    overrides = dict(request.parameters.get(name, {}))
    for key in overrides:
        if key not in card.parameters:
            raise UsageError(
                f"parameters.{name}.{key}: task {name!r} has no such parameter.{did_you_mean(key, card.parameters)}"
            )
    for option, parameter in (("text", "text"), ("limit", "sequences")):
        value = getattr(request, option)
        if value is not None and parameter in card.parameters:
            overrides[parameter] = value
    return TaskPlan(name, card.version, preset, card.resolve(preset, overrides))
