"""The plan: which jobs a request means, in an order in which work is shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from saebench.cards.card import PRESETS, Groups, Scope
from saebench.cards.registry import registry
from saebench.cards.settings import Settings, TextSettings, Value
from saebench.data.text_ref import parse_text_ref
from saebench.errors import UsageError, did_you_mean
from saebench.lm.reference import LMRef, parse_lm_ref
from saebench.lm.site import parse_site
from saebench.runner.request import RunRequest
from saebench.sae.group_ref import SAEGroupRef, parse_sae_group, seed_groups, size_groups
from saebench.sae.reference import SAERef, parse_sae_ref
from saebench.sae.zoo import zoo_names
from saebench.tasks.factory import resolve

CONTROLS = ("baseline:pca?k=32", "baseline:random?d_sae=2048&l0=32", "baseline:neurons")
Subject = SAERef | SAEGroupRef


@dataclass(frozen=True)
class TaskPlan:
    """A task with everything that decides its numbers."""

    name: str
    version: int
    preset: str
    settings: Settings
    scope: Scope = "sae"
    groups: tuple[SAEGroupRef, ...] = ()  # those that it compares the SAEs of
    without: tuple[str, ...] = ()  # kinds of baselines that it leaves out
    passes_counted: bool = False  # before it runs, as those of `core`

    @property
    def parameters(self) -> dict[str, Value]:
        """The settings as records keep them."""
        return self.settings.parameters()

    @property
    def takes_saes(self) -> bool:
        return self.scope != "group"

    def takes(self, subject: Subject) -> bool:
        """Whether ``subject`` is evaluated by this task."""
        if isinstance(subject, SAERef):
            return self.takes_saes and subject.baseline not in self.without
        return subject in self.groups

    @property
    def takes_groups(self) -> bool:
        return self.scope != "sae"


@dataclass(frozen=True)
class Job:
    """One SAE or group of SAEs, one task, one seed."""

    subject: Subject
    task: TaskPlan
    seed: int

    @property
    def members(self) -> tuple[SAERef, ...]:
        """The SAEs that must be loaded."""
        return self.subject.members if isinstance(self.subject, SAEGroupRef) else (self.subject,)


@dataclass(frozen=True)
class Plan:
    """All jobs of a request: seed by seed, SAE by SAE, so that clean passes and loaded SAEs are shared."""

    request: RunRequest
    model: LMRef
    tasks: tuple[TaskPlan, ...]
    saes: tuple[SAERef, ...]  # those that are evaluated one by one
    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()  # what was asked for and is left aside

    @property
    def groups(self) -> tuple[SAEGroupRef, ...]:
        return tuple(dict.fromkeys(group for task in self.tasks for group in task.groups))

    @property
    def refs(self) -> tuple[SAERef, ...]:
        """Every SAE that some job loads."""
        in_groups = (member for group in self.groups for member in group.members)
        return tuple(dict.fromkeys((*self.saes, *in_groups)))


def calibration_text(request: RunRequest, task: TaskPlan) -> str:
    """The text that controls are fitted to for a task: its own, else the run's (its calibration documents)."""
    default = registry().card("core").parameters["text"].default
    own = task.settings.text if isinstance(task.settings, TextSettings) else None
    return str(own or request.text or default)


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
    given = _given_groups(request)
    planned = [_task_plan(request, name, preset, given) for name in dict.fromkeys(names)]
    for task in planned:
        if isinstance(task.settings, TextSettings):
            parse_text_ref(task.settings.text)
    tasks = tuple(task for task in planned if task.takes_saes or task.groups)
    saes = tuple(ref for ref in _saes(request, given) if any(task.takes(ref) for task in tasks))
    plan = Plan(request, parse_lm_ref(request.model), tasks, saes, (), tuple(_notes(request, planned)))
    return replace(plan, jobs=tuple(_jobs(plan)))


def _given_groups(request: RunRequest) -> tuple[SAEGroupRef, ...]:
    groups = tuple(dict.fromkeys(parse_sae_group(text) for text in request.sae_group or ()))
    for number, group in enumerate(groups):
        if group.name in {other.name for other in groups[:number]}:
            raise UsageError(f"Two SAE groups are called {group.name!r}; tables tell them apart by their names.")
    return groups


def _saes(request: RunRequest, given: tuple[SAEGroupRef, ...]) -> tuple[SAERef, ...]:
    """What tasks of single SAEs run on: ``--sae``, else the members of ``--sae-group``, else the default."""
    if request.sae is None and given:
        return tuple(dict.fromkeys(member for group in given for member in group.members))
    return tuple(dict.fromkeys(parse_sae_ref(ref) for ref in request.sae or default_saes()))


def _groups(request: RunRequest, given: tuple[SAEGroupRef, ...], kind: Groups) -> tuple[SAEGroupRef, ...]:
    """What tasks of groups run on: ``--sae-group``, else nothing beside ``--sae``, else their default."""
    if given or request.sae is not None:
        return given
    return tuple(seed_groups() if kind == "seeds" else size_groups())


def _notes(request: RunRequest, planned: list[TaskPlan]) -> Iterator[str]:
    for task in planned:
        if task.scope == "group" and not task.groups:
            lacks = f"{task.name} compares the SAEs of a group, and no group is given"
            if request.tasks is not None:
                raise UsageError(
                    f"{lacks}; name one: --sae-group NAME=REF,REF, with the references of two SAEs or more."
                )
            yield f"left out: {lacks} (--sae-group)"
    if request.sae_group is not None and not any(task.takes_groups for task in planned):
        yield "--sae-group: no task of this run compares SAEs with each other"
    if request.sae is not None and not any(task.takes_saes for task in planned):
        yield "--sae is left aside: the tasks of this run take groups only"


def _jobs(plan: Plan) -> Iterator[Job]:
    order = _order(plan)
    for seed in dict.fromkeys(plan.request.seed):
        for subject in order:
            for task in plan.tasks:
                if task.takes(subject):
                    yield Job(subject, task, seed)


def _order(plan: Plan) -> list[Subject]:
    """A group follows its members, which stand together: what it needs is loaded then, and is let go soon."""
    order: dict[Subject, None] = {}
    for sae in plan.saes:
        order[sae] = None
        for group in plan.groups:
            if sae in group.members:
                order |= dict.fromkeys(member for member in group.members if member in plan.saes)
                order[group] = None
    return [*order, *(group for group in plan.groups if group not in order)]


def _task_plan(request: RunRequest, name: str, preset: str, given: tuple[SAEGroupRef, ...]) -> TaskPlan:
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
    groups = _groups(request, given, card.groups) if card.scope != "sae" else ()
    # Whoever names a control gets it.
    without = () if request.sae is not None or given else tuple(card.without_controls)
    settings = resolve(name, preset, overrides)
    return TaskPlan(name, card.version, preset, settings, card.scope, groups, without, card.passes_counted)
