"""Executing a plan: every job ends as a record, and no job stops another."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import torch

from saebench.budget import Budget
from saebench.cache.tensors import TensorCache
from saebench.errors import HookMismatchError, NotApplicableError, SaebenchError
from saebench.evaluation import GroupTask, SAEGroup, SAETask, TaskOutput
from saebench.lm.load import load_lm, resolve_device, resolve_dtype
from saebench.lm.model import LanguageModel
from saebench.lm.reference import LMRef
from saebench.lm.synthetic import load_synthetic_lm
from saebench.passes.context import TaskContext
from saebench.progress import NullProgress, Progress
from saebench.results.identity import record_id
from saebench.results.provenance import collect
from saebench.results.record import Arrays, Identity, Record, SAEInfo, Status
from saebench.results.store import ResultStore, needed, writable_or_raise
from saebench.runner.assets import pull_missing
from saebench.runner.cache import cache_folder
from saebench.runner.identity import checked_data, job_identity
from saebench.runner.info import label, sae_info, sentence
from saebench.runner.loading import Loader, check_group, load_keys, not_ending
from saebench.runner.plan import Job, Plan, TaskPlan
from saebench.runner.request import RunRequest
from saebench.runner.sites import default_hook, known_hooks
from saebench.sae.group_ref import SAEGroupRef
from saebench.sae.protocol import SAE
from saebench.tasks.factory import create


@dataclass
class RunSummary:
    """What a run did.

    A job that fails although the store holds an ok record of it leaves that record unchanged; its failure is reported
    only here.

    Attributes:
        out: The folder of results.
        records: The records of all jobs of the plan, including those that existed before.
        new: How many jobs were run.
        wall_seconds: How long the run took.
        interrupted: Whether the user stopped it.
        lost: The records that are not in ``out`` any more when the run ends; somebody else removed them.
        differences: How the run used SAEs otherwise than their training did, as far as their metadata tells.
    """

    out: Path
    records: list[Record] = field(default_factory=list)
    new: int = 0
    wall_seconds: float = 0.0
    interrupted: bool = False
    differences: list[str] = field(default_factory=list)
    lost: list[Record] = field(default_factory=list)

    def count(self, status: Status) -> int:
        """The number of records with this status."""
        return sum(record.status is status for record in self.records)


def execute(plan: Plan, progress: Progress | None = None) -> RunSummary:
    """Run the jobs of a plan that have no record yet.

    Args:
        plan: The plan.
        progress: Where to report; nowhere by default.

    Raises:
        SaebenchError: The language model, the folder of results or the inputs of every task cannot be used, which stops
            every job.
    """
    progress = progress or NullProgress()
    request = plan.request
    started = time.monotonic()
    summary = RunSummary(request.out)
    writable_or_raise(request.out)
    for note in plan.notes:
        progress.log(note)
    if not plan.jobs:  # of a shard, where there are more shards than SAEs
        return summary
    device = resolve_device(request.device)
    dtype = torch.float32 if plan.model.synthetic else resolve_dtype(request.dtype, device)
    try:
        pull_missing(plan, progress)
        progress.log(f"loading {plan.model} ({str(dtype).removeprefix('torch.')}, {device})")
        lm = _load(plan.model, device, dtype, request)
        budget = _budget(request, device)
        resident = min(budget.resident, psutil.virtual_memory().available // 4)
        cache = TensorCache(cache_folder(), memory=resident, disk=budget.cache, log=progress.log)
        sites = _sites(plan, lm)
        for seed in dict.fromkeys(job.seed for job in plan.jobs):
            context = TaskContext(lm, seed, request.batch_size, progress, budget=budget, cache=cache, sites=sites)
            _SeedRun(plan, context, summary, progress).run([job for job in plan.jobs if job.seed == seed])
        summary.lost = _lost(summary)
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.wall_seconds = time.monotonic() - started
    return summary


def _load(model: LMRef, device: torch.device, dtype: torch.dtype, request: RunRequest) -> LanguageModel:
    if model.synthetic:
        return load_synthetic_lm(model, device)
    return load_lm(model, device=device, dtype=dtype, trust_remote_code=request.trust_remote_code)


class _SeedRun:
    """Runs the jobs of one seed, which share a context."""

    def __init__(self, plan: Plan, context: TaskContext, summary: RunSummary, progress: Progress) -> None:
        self.plan, self.context, self.summary, self.progress = plan, context, summary, progress
        self.store = ResultStore(plan.request.out)
        self.tasks = {task.name: create(task.name) for task in plan.tasks}
        self.data: dict[str, dict[str, str]] = {}
        self.unusable: dict[str, SaebenchError] = {}  # why the inputs of a task cannot be used
        hook_named = plan.request.hook is not None or plan.model.synthetic  # which has one hook point for all SAEs
        self.loader = Loader(context, default_hook(plan, context.lm.n_layers), hook_named=hook_named)

    def run(self, jobs: list[Job]) -> None:
        """Run ``jobs`` in their order and release each SAE after the last job that needs it.

        Raises SaebenchError when no task can use its inputs. If some can, the jobs of the others become failed records.
        """
        for planned in self.plan.tasks:
            self._prepare(planned)
        if len(self.unusable) == len(self.plan.tasks):
            raise next(iter(self.unusable.values()))
        last_use = {key: number for number, job in enumerate(jobs) for key in load_keys(job)}
        for number, job in enumerate(jobs):
            self.loader.keep({key for key, last in last_use.items() if last >= number})
            title = f"[{number + 1}/{len(jobs)}] {job.task.name} {label(job.subject)}"
            self.summary.records.append(self._run_job(job, title))

    def _prepare(self, planned: TaskPlan) -> None:
        task = self.tasks[planned.name]
        try:
            with not_ending(planned.name):
                task.prepare(self.context, planned.settings)
                self.data[planned.name] = checked_data(task.data(self.context, planned.settings), planned.name)
        except Exception as error:  # a task may be somebody else's code; the other tasks go on
            known = error if isinstance(error, SaebenchError) else None
            self.unusable[planned.name] = known or SaebenchError(f"{planned.name}: {sentence(error)}")
            self.data[planned.name] = {}
            self.progress.log(f"{planned.name} is left out, because its inputs cannot be used: {sentence(error)}")

    def _run_job(self, job: Job, title: str) -> Record:
        started = time.monotonic()
        fingerprint = ""
        try:
            fingerprint = self.loader.fingerprint(job)
            self._tell_differences(job)
            if error := self.unusable.get(job.task.name):
                raise error
            identity = self._identity(job, fingerprint)
            existing = self._find(identity)
            if existing is not None and not needed(existing, self.plan.request.overwrite):
                if not (damage := self.store.damage(existing)):
                    self.progress.log(f"{title}: exists already ({existing.status.value})")
                    return existing
                self.progress.log(f"{title}: again, because the arrays of its record are unusable ({damage})")
            else:
                self.progress.log(title)
            with not_ending(label(job.subject)):
                output = self._measure(job, self.loader.saes(job))
            record = self._record(job, identity, started, Status.OK, output=output)
            return self._write(record, output.arrays)
        except _StoreError:
            raise  # the next record could not be read or written either
        except NotApplicableError as error:
            return self._unmeasured(job, title, fingerprint, started, Status.NOT_APPLICABLE, error)
        except Exception as error:  # no job stops another; the record keeps the reason
            return self._unmeasured(job, title, fingerprint, started, Status.FAILED, error)

    def _tell_differences(self, job: Job) -> None:
        """Log what the job does otherwise than the training of its SAEs; a run says each sentence once."""
        for difference in self.loader.differences(job):
            if difference not in self.summary.differences:
                self.summary.differences.append(difference)
                self.progress.log(f"warning: {difference}")

    def _measure(self, job: Job, saes: tuple[SAE, ...]) -> TaskOutput:
        task, subject = self.tasks[job.task.name], job.subject
        for ref, sae in zip(job.members, saes, strict=True):
            if sae.hook.several and not task.several_sites:
                raise NotApplicableError(
                    f"{job.task.name} is defined for SAEs with one hook point, and {ref} reads or writes at several "
                    f"({sae.hook})."
                )
            if missing := sorted(map(str, task.needs - sae.capabilities)):
                raise NotApplicableError(f"{job.task.name} needs {', '.join(missing)}, which {ref} does not have.")
        if isinstance(subject, SAEGroupRef):
            check_group(subject, saes, one_hook=task.card.groups != "sites")
        saes = self.loader.in_units(job)
        if isinstance(subject, SAEGroupRef):
            assert isinstance(task, GroupTask)
            group = SAEGroup(subject.name, saes, self.loader.fingerprints(job))
            return task.run_group(group, self.context, job.task.settings)
        assert isinstance(task, SAETask)
        return task.run(saes[0], self.context, job.task.settings)

    def _unmeasured(
        self, job: Job, title: str, fingerprint: str, started: float, status: Status, error: Exception
    ) -> Record:
        """Return the record of a job that gave no numbers, and write it unless a better one exists."""
        identity = self._identity(job, fingerprint)
        measured = self._find(identity)
        if status is Status.FAILED and not self.loader.loaded(job):
            # The job has not begun. Without contents its record gives way as soon as the job succeeds, also when what
            # is repaired, such as a text, changes them.
            identity = identity.model_copy(update={"sae_fingerprint": "", "data": {}})
        record = self._record(job, identity, started, status, error=error)
        self.progress.log(f"{title}: {status.value.replace('_', ' ')}: {record.error}")
        if measured is not None and measured.status is Status.OK:
            self.summary.new += 1
            return record.model_copy(update={"error": f"{record.error} (The ok record of an earlier run is kept.)"})
        existing = self._find(record.identity)
        # Every run tries again to load an SAE that could not be loaded; the same outcome does not count as new.
        same = existing is not None and (existing.status, existing.error) == (record.status, record.error)
        if existing is not None and same and not needed(existing, self.plan.request.overwrite):
            return existing
        return self._write(record, {})

    def _find(self, identity: Identity) -> Record | None:
        try:
            return self.store.find(identity)
        except OSError as error:
            raise _StoreError(
                f"Cannot read the results in {self.plan.request.out} ({error.strerror or error}); fix the cause and "
                "run the same command again, or choose another folder."
            ) from error

    def _write(self, record: Record, arrays: Arrays) -> Record:
        try:
            self.store.write(record, arrays)
        except MemoryError as error:
            raise SaebenchError(
                "There is not enough memory to write its record; free some and run the same command again with "
                "--overwrite failed."
            ) from error
        except OSError as error:
            raise _StoreError(
                f"Cannot write results into {self.plan.request.out} ({error.strerror or error}). Earlier records are "
                "kept: fix the cause and run the same command again, or choose another folder."
            ) from error
        self.summary.new += 1
        return record

    def _record(
        self,
        job: Job,
        identity: Identity,
        started: float,
        status: Status,
        *,
        output: TaskOutput | None = None,
        error: Exception | None = None,
    ) -> Record:
        return Record(
            record_id=record_id(identity),
            preset=job.task.preset,
            status=status,
            error="" if error is None else sentence(error),
            error_type="" if error is None else type(error).__name__,
            identity=identity,
            sae=self._sae_info(job, output),
            measurements=output.measurements if output else [],
            units=output.units if output else {},
            counts=output.counts if output else {},
            notes=output.notes if output else {},
            provenance=collect(
                device=str(self.context.lm.device),
                wall_seconds=time.monotonic() - started,
                arguments=self.plan.request.arguments(),
                commits=self._commits(job),
            ),
        )

    def _commits(self, job: Job) -> dict[str, str]:
        """Return the commits of the model and of the SAEs of ``job``, of those that came from the hub."""
        saes = zip(job.members, self.loader.loaded(job), strict=False)
        named = [(self.context.lm.name, self.context.lm), *((str(ref), sae) for ref, sae in saes)]
        return {name: commit for name, held in named if (commit := getattr(held, "commit", None))}

    def _sae_info(self, job: Job, output: TaskOutput | None) -> SAEInfo:
        saes = self.loader.loaded(job)
        try:
            return sae_info(job.subject, saes, output, self.loader.hook, self.loader.differences(job))
        except Exception:
            if output is not None:
                raise
            # A failed job is recorded also when the SAE can no longer be described.
            return sae_info(job.subject, (), None, self.loader.hook)

    def _identity(self, job: Job, fingerprint: str) -> Identity:
        return job_identity(job, self.context, fingerprint, self.data[job.task.name])


def _lost(summary: RunSummary) -> list[Record]:
    """Return the records that the store does not hold. A failed one may have given way to that of another process."""
    store = ResultStore(summary.out)
    return [record for record in summary.records if record.status is not Status.FAILED and not store.holds(record)]


class _StoreError(SaebenchError):
    """The folder of results cannot be read or written. It stops the whole run, not only one job."""


def _budget(request: RunRequest, device: torch.device) -> Budget:
    """The budget of the request; by default at most half of the free memory (on a GPU, of what the model leaves)."""
    budget = request.budget()
    if "memory_budget" in request.model_fields_set:
        return budget
    if device.type == "cuda":
        return replace(budget, memory=torch.cuda.mem_get_info(device)[0] // 2)
    return replace(budget, memory=min(budget.memory, psutil.virtual_memory().available // 2))


def _sites(plan: Plan, lm: LanguageModel) -> tuple[str, ...]:
    """The hook points of this model that passes for the plan's SAEs are known to need."""
    if plan.model.synthetic:
        return ()
    sites: dict[str, None] = {}
    for hook in known_hooks(plan, default_hook(plan, lm.n_layers)):
        for names in [hook.sites] if hook.several else [(site,) for site in hook.sites]:
            if all(_exists(lm, site) for site in names):
                start = lm.restart_site(*(hook.sites_out if hook.several else names))
                sites |= dict.fromkeys((*names, start))
    return tuple(sites)


def _exists(lm: LanguageModel, site: str) -> bool:
    try:
        return lm.d_at(site) > 0
    except HookMismatchError:  # the record of the SAE that names it reports this
        return False
