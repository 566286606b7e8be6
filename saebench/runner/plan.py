"""The plan: the jobs that a request asks for, in an order that shares work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from saebench.cards.card import PRESETS, Groups, Kind, Scope
from saebench.cards.registry import registry
from saebench.cards.settings import Settings, TextSettings, Value
from saebench.data.text_ref import parse_text_ref
from saebench.errors import HookMismatchError, UsageError, did_you_mean
from saebench.lm.reference import LMRef, parse_model_ref
from saebench.runner.fit import check_named_hooks, chosen_hook, misfits
from saebench.runner.request import RunRequest
from saebench.runner.shape import shape_of
from saebench.runner.shard import jobs_of, parse_shard
from saebench.sae.group_ref import SAEGroupRef, parse_sae_group, seed_groups, size_groups
from saebench.sae.panel.scheme import PANEL
from saebench.sae.reference import SAERef, parse_sae_ref
from saebench.sae.suggest import about_model
from saebench.sae.zoo import zoo_names
from saebench.synthetic.reference import is_synthetic
from saebench.tasks.factory import resolve

CONTROLS = ("baseline:pca?k=32", "baseline:random?d_sae=2048&l0=32", "baseline:neurons")
Subject = SAERef | SAEGroupRef


@dataclass(frozen=True)
class TaskPlan:
    """A task with everything that decides its numbers.

    Attributes:
        name: The task.
        version: The version of its card.
        preset: The preset that its settings come from.
        settings: The settings.
        calibration_text: The text that controls are fitted to for this task (its calibration documents).
        scope: Whether it measures single SAEs, groups, or both.
        groups: The groups whose SAEs it compares.
        without_controls: The kinds of controls that it leaves out.
        passes_counted: Whether its passes of the language model are known before it runs.
    """

    name: str
    version: int
    preset: str
    settings: Settings
    calibration_text: str
    scope: Scope = "sae"
    groups: tuple[SAEGroupRef, ...] = ()
    without_controls: tuple[str, ...] = ()
    passes_counted: bool = False

    @property
    def parameters(self) -> dict[str, Value]:
        """The settings in the form that records keep."""
        return self.settings.parameters()

    @property
    def takes_saes(self) -> bool:
        """Whether it measures single SAEs."""
        return self.scope != "group"

    @property
    def takes_groups(self) -> bool:
        """Whether it compares the SAEs of groups."""
        return self.scope != "sae"

    def takes(self, subject: Subject) -> bool:
        """Whether it measures ``subject``."""
        if isinstance(subject, SAERef):
            return self.takes_saes and subject.control not in self.without_controls
        return subject in self.groups


@dataclass(frozen=True)
class Job:
    """One task on one SAE or group of SAEs, with one seed."""

    subject: Subject
    task: TaskPlan
    seed: int

    @property
    def members(self) -> tuple[SAERef, ...]:
        """The SAEs that the job loads."""
        return self.subject.members if isinstance(self.subject, SAEGroupRef) else (self.subject,)


@dataclass(frozen=True)
class Plan:
    """All jobs of a request: seed by seed and SAE by SAE, so that clean passes and loaded SAEs are shared."""

    request: RunRequest
    model: LMRef
    tasks: tuple[TaskPlan, ...]
    saes: tuple[SAERef, ...]  # the SAEs that are measured one by one
    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()  # what the user asked for and the plan leaves out

    @property
    def groups(self) -> tuple[SAEGroupRef, ...]:
        """The groups that some task compares."""
        return tuple(dict.fromkeys(group for task in self.tasks for group in task.groups))

    @property
    def refs(self) -> tuple[SAERef, ...]:
        """Every SAE that some job loads."""
        in_groups = (member for group in self.groups for member in group.members)
        return tuple(dict.fromkeys((*self.saes, *in_groups)))


def default_saes(kind: Kind = "language") -> list[str]:
    """The references that a run without ``--sae`` takes: the zoo, and one control of each kind.

    On a synthetic model they are the panel of SAEs from bad to perfect that are made for it.
    """
    if kind == "synthetic":
        return list(PANEL)
    names = zoo_names()
    if not names:
        raise UsageError("This installation has no zoo; name an SAE with --sae.")
    return [f"zoo:{name}" for name in names] + [*CONTROLS, f"baseline:permuted-decoder(zoo:{names[0]})"]


def make_plan(request: RunRequest) -> Plan:
    """Make the plan of a request, without loading anything.

    Raises:
        UsageError: A name, a reference or a setting is wrong, or there is nothing to do.
        HookMismatchError: The request names a hook point that does not exist, or no SAE fits the language model.
    """
    # A suite is every task at the preset of the same name.
    if request.suite not in PRESETS:
        known = ", ".join(PRESETS)
        raise UsageError(
            f"There is no suite {request.suite!r}; suites are {known}.{did_you_mean(request.suite, PRESETS)}"
        )
    preset = request.preset or request.suite
    names = request.tasks or [name for name in registry().names() if registry().card(name).model == _kind(request)]
    for name in request.parameters:
        if name not in names:
            raise UsageError(f"parameters.{name}: that task is not part of this run.{did_you_mean(name, names)}")
    named_groups = _named_groups(request)
    planned = [_task_plan(request, name, preset, named_groups) for name in dict.fromkeys(names)]
    for task in planned:
        if isinstance(task.settings, TextSettings):
            parse_text_ref(task.settings.text)
    tasks = tuple(task for task in planned if task.takes_saes or task.groups)
    saes = tuple(ref for ref in _saes(request, named_groups) if any(task.takes(ref) for task in tasks))
    plan = Plan(request, _model(request.model), tasks, saes, (), tuple(_notes(request, planned)))
    return _shard(_checked(replace(plan, jobs=tuple(_jobs(plan)))))


def _shard(plan: Plan) -> Plan:
    """Return the part of the plan that the request names, with a note that says so.

    SAEs and tasks stay those of the whole plan: the hook point of controls and what clean passes capture depend on
    them, and every shard must do as the whole run would.
    """
    if plan.request.shard is None:
        return plan
    shard = parse_shard(plan.request.shard)
    jobs = jobs_of(shard, plan.jobs)
    return replace(plan, jobs=jobs, notes=(*plan.notes, f"shard {shard}: {len(jobs)} of {len(plan.jobs)} jobs"))


def _kind(request: RunRequest) -> Kind:
    return "synthetic" if is_synthetic(request.model) else "language"


def _model(text: str) -> LMRef:
    """Return the model that a text names. Raises UsageError, which says so if it names an SAE."""
    try:
        return parse_model_ref(text)
    except UsageError as error:
        if suggestion := about_model(text):
            raise UsageError(f"{error} {suggestion}") from error
        raise


def _checked(plan: Plan) -> Plan:
    """Return the plan with a note on each SAE that is known not to fit the language model.

    Raises HookMismatchError when the request names a hook point that the model cannot have, and when no job is left.
    """
    shape = shape_of(plan.model)
    check_named_hooks(plan.request.hook, plan.refs, plan.model, shape)
    unfit = misfits(plan.refs, plan.model, shape, chosen_hook(plan.request.hook, plan.refs))
    if plan.jobs and all(any(member in unfit for member in job.members) for job in plan.jobs):
        raise HookMismatchError(next(iter(unfit.values())))
    return replace(plan, notes=(*plan.notes, *(f"will fail: {reason}" for reason in unfit.values())))


def _named_groups(request: RunRequest) -> tuple[SAEGroupRef, ...]:
    """The groups of ``--sae-group``. Raises UsageError when two different ones have the same name."""
    groups = tuple(dict.fromkeys(parse_sae_group(text) for text in request.sae_group or ()))
    for number, group in enumerate(groups):
        if group.name in {other.name for other in groups[:number]}:
            raise UsageError(f"Two SAE groups are called {group.name!r}; give them different names.")
    return groups


def _saes(request: RunRequest, named_groups: tuple[SAEGroupRef, ...]) -> tuple[SAERef, ...]:
    """The SAEs for tasks of single SAEs: ``--sae``, else the members of ``--sae-group``, else the default."""
    if request.sae is None and named_groups:
        return tuple(dict.fromkeys(member for group in named_groups for member in group.members))
    return tuple(dict.fromkeys(parse_sae_ref(ref) for ref in request.sae or default_saes(_kind(request))))


def _groups(request: RunRequest, named_groups: tuple[SAEGroupRef, ...], kind: Groups) -> tuple[SAEGroupRef, ...]:
    """The groups for tasks of groups: ``--sae-group``, else none if the user names ``--sae``, else the default."""
    if named_groups or request.sae is not None:
        return named_groups
    return tuple({"seeds": seed_groups, "sizes": size_groups, "sites": list}[kind]())


def _notes(request: RunRequest, planned: list[TaskPlan]) -> Iterator[str]:
    for task in planned:
        if task.scope == "group" and not task.groups:
            missing = f"{task.name} compares the SAEs of a group, and no group is given"
            if request.tasks is not None:
                raise UsageError(
                    f"{missing}; name one: --sae-group NAME=REF,REF, with the references of two SAEs or more."
                )
            yield f"left out: {missing} (--sae-group)"
    if request.sae_group is not None and not any(task.takes_groups for task in planned):
        yield "--sae-group is ignored: no task of this run compares SAEs with each other"
    if request.sae is not None and not any(task.takes_saes for task in planned):
        yield "--sae is ignored: the tasks of this run take only groups"


def _jobs(plan: Plan) -> Iterator[Job]:
    order = _order(plan)
    for seed in dict.fromkeys(plan.request.seed):
        for subject in order:
            for task in plan.tasks:
                if task.takes(subject):
                    yield Job(subject, task, seed)


def _order(plan: Plan) -> list[Subject]:
    """All subjects, each group right after its members, so that these are in memory then and can be released soon."""
    order: dict[Subject, None] = {}
    for sae in plan.saes:
        order[sae] = None
        for group in plan.groups:
            if sae in group.members:
                order |= dict.fromkeys(member for member in group.members if member in plan.saes)
                order[group] = None
    return [*order, *(group for group in plan.groups if group not in order)]


def _task_plan(request: RunRequest, name: str, preset: str, named_groups: tuple[SAEGroupRef, ...]) -> TaskPlan:
    card = registry().card(name)
    if card.model != _kind(request):
        example = "asset:gemma-3-270m" if card.model == "language" else "synthetic:small"
        raise UsageError(
            f"Task {name!r} measures on a {card.model} model, and {request.model} is a {_kind(request)} one; name "
            f"another with --model, such as {example}."
        )
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
    settings = resolve(name, preset, overrides)
    # A control that the user names is measured by every task.
    users_choice = request.sae is not None or named_groups
    return TaskPlan(
        name=name,
        version=card.version,
        preset=preset,
        settings=settings,
        calibration_text=_calibration_text(request, settings),
        scope=card.scope,
        groups=_groups(request, named_groups, card.groups) if card.scope != "sae" else (),
        without_controls=() if users_choice else tuple(card.without_controls),
        passes_counted=card.passes_counted,
    )


def _calibration_text(request: RunRequest, settings: Settings) -> str:
    """The text of the task, else that of the run, else that of ``core``."""
    own = settings.text if isinstance(settings, TextSettings) else None
    return str(own or request.text or registry().card("core").parameters["text"].default)
