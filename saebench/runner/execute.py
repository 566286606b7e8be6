"""Carrying out a plan: every job ends as a record, and no job ends another."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import torch

from saebench.budget import Budget
from saebench.cache.tensors import TensorCache
from saebench.errors import HookMismatchError, NotApplicableError, SaebenchError, SAELoadError
from saebench.lm.load import load_lm, resolve_device, resolve_dtype
from saebench.lm.model import LanguageModel
from saebench.progress import NullProgress, Progress
from saebench.results.identity import record_id
from saebench.results.provenance import collect
from saebench.results.record import Arrays, Identity, Record, SAEInfo, Status
from saebench.results.store import ResultStore, needed, writable_or_raise
from saebench.runner.assets import pull_missing
from saebench.runner.cache import cache_folder
from saebench.runner.groups import default_hook, sites
from saebench.runner.identity import fitted_fingerprint, job_identity
from saebench.runner.plan import Job, Plan
from saebench.runner.request import RunRequest
from saebench.sae.base import LoadContext
from saebench.sae.protocol import SAE, HookSite
from saebench.sae.reference import SAERef, load_sae
from saebench.tasks.base import Task, TaskOutput
from saebench.tasks.context import TaskContext
from saebench.tasks.registry import registry


@dataclass
class RunSummary:
    """What a run did. ``records`` are those of all jobs of the plan, also of those found done; ``new`` jobs were run.

    A job that fails where the store holds an ok record of it leaves that record alone: its failure is told here only.
    """

    out: Path
    records: list[Record] = field(default_factory=list)
    new: int = 0
    wall_seconds: float = 0.0
    interrupted: bool = False

    def count(self, status: Status) -> int:
        return sum(record.status is status for record in self.records)


def execute(plan: Plan, progress: Progress | None = None) -> RunSummary:
    """Run what is missing of ``plan``. Raises SaebenchError for what stops every job (text, model, folder)."""
    progress = progress or NullProgress()
    request = plan.request
    started = time.monotonic()
    summary = RunSummary(request.out)
    writable_or_raise(request.out)
    device = resolve_device(request.device)
    dtype = resolve_dtype(request.dtype, device)
    try:
        pull_missing(plan, progress)
        progress.log(f"loading {plan.model} ({str(dtype).removeprefix('torch.')}, {device})")
        lm = load_lm(plan.model, device=device, dtype=dtype)
        budget = _budget(request, device)
        resident = min(budget.resident, psutil.virtual_memory().available // 4)
        cache = TensorCache(cache_folder(), memory=resident, disk=budget.cache, log=progress.log)
        sites = _sites(plan, lm)
        for seed in dict.fromkeys(request.seed):
            context = TaskContext(lm, seed, request.batch_size, progress, budget=budget, cache=cache, sites=sites)
            _Runner(plan, context, summary, progress).run([job for job in plan.jobs if job.seed == seed])
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.wall_seconds = time.monotonic() - started
    return summary


class _Runner:
    """Jobs of one seed: they share the context."""

    def __init__(self, plan: Plan, context: TaskContext, summary: RunSummary, progress: Progress) -> None:
        self.plan, self.context, self.summary, self.progress = plan, context, summary, progress
        self.store = ResultStore(plan.request.out)
        self.tasks: dict[str, Task] = {task.name: registry().create(task.name) for task in plan.tasks}
        self.hook = default_hook(plan, context.lm.n_layers)
        self._loaded: tuple[tuple[SAERef, str], SAE] | None = None

    def run(self, jobs: list[Job]) -> None:
        for task in self.plan.tasks:
            _prepare(self.tasks[task.name], self.context, task.parameters)
        for number, job in enumerate(jobs, start=1):
            self.summary.records.append(self._do(job, f"[{number}/{len(jobs)}] {job.task.name} {job.sae}"))

    def _do(self, job: Job, label: str) -> Record:
        started = time.monotonic()
        fingerprint = ""
        try:
            fingerprint = fitted_fingerprint(job.sae, self.context, self._text(job), self.hook) or ""
            fingerprint = fingerprint or _fingerprint(self._sae(job))
            existing = self.store.find(job_identity(job, self.context, fingerprint))
            if existing is not None and not needed(existing, self.plan.request.overwrite):
                self.progress.log(f"{label}: there already ({existing.status.value})")
                return existing
            self.progress.log(label)
            sae = self._sae(job)
            task = self.tasks[job.task.name]
            if missing := sorted(map(str, task.needs - sae.capabilities)):
                raise NotApplicableError(f"{job.task.name} needs {', '.join(missing)}, which {job.sae} does not have.")
            output = task.run(sae, self.context, job.task.parameters)
            record = self._record(job, fingerprint, started, Status.OK, output=output)
            return self._write(record, output.arrays)
        except _CannotWrite:
            raise  # the next record could not be written either
        except NotApplicableError as error:
            return self._unmeasured(job, label, fingerprint, started, Status.NOT_APPLICABLE, error)
        except Exception as error:  # one job never ends the others; the record keeps the reason
            return self._unmeasured(job, label, fingerprint, started, Status.FAILED, error)

    def _unmeasured(
        self, job: Job, label: str, fingerprint: str, started: float, status: Status, error: Exception
    ) -> Record:
        """The record of a job that gave no numbers. It never takes the place of one that did."""
        record = self._record(job, fingerprint, started, status, error=error)
        self.progress.log(f"{label}: {status.value.replace('_', ' ')}: {record.error}")
        existing = self.store.find(record.identity)
        if existing is not None and existing.status is Status.OK:
            self.summary.new += 1
            return record.model_copy(update={"error": f"{record.error} (The ok record of an earlier run is kept.)"})
        # An SAE that cannot be loaded is tried again by every run; the same outcome is no news.
        same = existing is not None and (existing.status, existing.error) == (record.status, record.error)
        if existing is not None and same and not needed(existing, self.plan.request.overwrite):
            return existing
        return self._write(record, {})

    def _write(self, record: Record, arrays: Arrays) -> Record:
        try:
            self.store.write(record, arrays)
        except OSError as error:
            raise _CannotWrite(
                f"Cannot write results into {self.plan.request.out} ({error.strerror or error}). What was written "
                "before stays: mend that and run the same command again, or choose another folder."
            ) from error
        self.summary.new += 1
        return record

    def _record(
        self,
        job: Job,
        fingerprint: str,
        started: float,
        status: Status,
        *,
        output: TaskOutput | None = None,
        error: Exception | None = None,
    ) -> Record:
        identity: Identity = job_identity(job, self.context, fingerprint)
        sae = self._loaded[1] if self._loaded and self._loaded[0] == self._key(job) else None
        return Record(
            record_id=record_id(identity),
            preset=job.task.preset,
            status=status,
            error="" if error is None else _sentence(error),
            error_type="" if error is None else type(error).__name__,
            identity=identity,
            sae=_info(job.sae, sae, output, self.hook),
            measurements=output.measurements if output else [],
            counts=output.counts if output else {},
            provenance=collect(
                device=str(self.context.lm.device),
                wall_seconds=time.monotonic() - started,
                arguments=self.plan.request.arguments(),
            ),
        )

    def _sae(self, job: Job) -> SAE:
        """The SAE of this job; the last one is kept, since its other tasks follow."""
        if self._loaded is None or self._loaded[0] != self._key(job):
            self._loaded = None
            lm = self.context.lm
            text = self._text(job)
            loading = LoadContext(
                hook=HookSite.at(self.hook),
                calibration=lambda site: self.context.calibration(text, site),
                d_in=lm.d_at,
                seed=job.seed,
                device=lm.device,
            )
            sae = _load(job.sae, loading)
            _info(job.sae, sae, None, self.hook)  # an SAE that cannot be described is refused here
            self._loaded = (self._key(job), sae)
        return self._loaded[1]

    def _key(self, job: Job) -> tuple[SAERef, str]:
        """What decides a loaded SAE: controls are fitted to a text."""
        return job.sae, self._text(job)

    def _text(self, job: Job) -> str:
        """The text that controls are calibrated on: the task's own (its calibration documents)."""
        return str(job.task.parameters.get("text") or registry().card("core").parameters["text"].default)


class _CannotWrite(SaebenchError):
    """The folder of results took no record: this ends the run, not one job."""


def _load(ref: SAERef, loading: LoadContext) -> SAE:
    try:
        return load_sae(ref, loading)
    except SystemExit as error:  # a user's module that is a script, with its own command line
        raise SAELoadError(f"{ref}: its code ended the program (exit status {error.code}) while loading.") from error


def _fingerprint(sae: SAE) -> str:
    fingerprint = sae.fingerprint()
    if not isinstance(fingerprint, str) or not fingerprint:
        raise SAELoadError(f"{sae.name}: fingerprint() must give a text that identifies it, not {fingerprint!r}.")
    return fingerprint


def _budget(request: RunRequest, device: torch.device) -> Budget:
    """What was asked for; by default no more than half of what is free, which on a GPU is all for the model."""
    budget = request.budget()
    if "memory_budget" in request.model_fields_set:
        return budget
    if device.type == "cuda":
        return replace(budget, memory=torch.cuda.mem_get_info(device)[0] // 2)
    return replace(budget, memory=min(budget.memory, psutil.virtual_memory().available // 2))


def _sites(plan: Plan, lm: LanguageModel) -> tuple[str, ...]:
    """The sites that passes for the plan's SAEs are known to need, as far as this model has them."""
    named = [site for site in sites(plan, default_hook(plan, lm.n_layers)) if _exists(lm, site)]
    return tuple(dict.fromkeys(part for site in named for part in (site, lm.restart_site(site))))


def _exists(lm: LanguageModel, site: str) -> bool:
    try:
        return lm.d_at(site) > 0
    except HookMismatchError:  # the SAE that names it becomes a failed record
        return False


def _prepare(task: Task, context: TaskContext, parameters: dict[str, object]) -> None:
    """Let a task refuse its inputs (a text that is too short) before the first job, if it wants to."""
    prepare = getattr(task, "prepare", None)
    if prepare is not None:
        prepare(context, parameters)


def _info(ref: SAERef, sae: SAE | None, output: TaskOutput | None, hook: str) -> SAEInfo:
    l0 = next((m.value for m in output.measurements if m.metric == "l0"), None) if output else None
    if sae is None:
        known = _known_hook(ref, hook)
        return SAEInfo(name=str(ref), architecture="", hook=known, d_in=0, d_sae=0, control=ref.scheme == "baseline")
    return SAEInfo(
        name=sae.name,
        architecture=sae.architecture,
        hook=str(sae.hook),
        d_in=sae.d_in,
        d_sae=sae.d_sae,
        l0=l0,
        control=bool(getattr(sae, "control", False)),
        notes={"model_name": sae.model_name} if sae.model_name else {},
    )


def _known_hook(ref: SAERef, default: str) -> str:
    """The site of an SAE that could not be loaded, as far as its reference tells; else empty."""
    if given := dict(ref.options).get("hook"):
        return given
    return default if ref.scheme == "baseline" and ref.inner is None else ""


def _sentence(error: Exception) -> str:
    """The error as one line: our own text, or the type and text of a stranger's."""
    text = " ".join(str(error).split())
    return text if isinstance(error, SaebenchError) else f"{type(error).__name__}: {text}"
