"""The audit of a task: it measures, judges and grades every primary metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saebench.atomic import write_atomic
from saebench.audit import components, planted
from saebench.audit.assemble import Known, audit_metric, noise_of
from saebench.audit.calls import Call, Setting, Size, Where, calls
from saebench.audit.measure import Values, failures, run, values
from saebench.audit.rules import RULES
from saebench.audit.subjects import LEAN, bundled, bundled_groups
from saebench.cards.audits import Audit, Components
from saebench.cards.card import TaskCard
from saebench.cards.registry import registry
from saebench.errors import SaebenchError
from saebench.progress import Progress
from saebench.results.collection import Collection
from saebench.results.paired import Scored, scores
from saebench.results.provenance import collect
from saebench.results.record import Record

Measured = list[tuple[Call, Record]]


@dataclass(frozen=True)
class Outcome:
    """An audit, and what went wrong on the way: SAEs whose evaluation failed, which the lenses do without."""

    audit: Audit
    failed: tuple[str, ...]


def audit_task(task: str, size: Size, name: str, seed: int, out: Path, progress: Progress) -> Outcome:
    """Audit one task. What an earlier call with the same ``out`` measured is not measured again.

    Args:
        task: The task.
        size: How much is measured.
        name: The name of the size, which the audit keeps.
        seed: The first seed of evaluations.
        out: Where records go.
        progress: Where to report.

    Raises:
        UsageError: There is no such task.
        SaebenchError: Nothing could be measured.
        KeyboardInterrupt: The user stopped it. What was measured is kept.
    """
    card = registry().card(task)
    known = settings(card, size, seed, out)
    measured: Measured = []
    for entry in known:
        progress.log(f"audit of {task}: {entry.setting.where} model")
        measured += run(calls(entry.setting, size, seed), out / task, progress)
    if not any(record.measurements for _, record in measured):
        reasons = failures(measured) or [f"{task} applies to none of the SAEs."]
        raise SaebenchError(f"The audit of {task} measured nothing. {reasons[0]}")
    contributions = _contributions(measured, known, out / task, seed)
    metrics = []
    for of_metric in values(card, measured):
        judged = audit_metric(of_metric, known, seed)
        found = _components(of_metric, known, contributions, size)
        metrics.append(judged.model_copy(update={"components": found}))
    # What an earlier call measured has cost time, too.
    seconds = sum(record.provenance.wall_seconds for _, record in measured)
    how = collect(device="cpu", wall_seconds=seconds, arguments={"size": name, "seed": seed})
    audit = Audit(
        task=task,
        task_version=card.version,
        seed=seed,
        size=name,
        rules=RULES,
        metrics=metrics,
        records=len(measured),
        provenance=how.model_dump(mode="json"),
    )
    return Outcome(audit, tuple(failures(measured)))


def settings(card: TaskCard, size: Size, seed: int, out: Path) -> list[Known]:
    """Return the models of an audit with their SAEs: the bundled one first, because its noise is that of users.

    Another seed draws another planted model, too.
    """
    made = []
    groups = card.scope == "group"
    if size.bundled != "nothing" and card.model == "language":
        subjects = bundled_groups() if groups else bundled()
        lean = {card.name: LEAN[card.name]} if card.name in LEAN else {}
        options = {"tasks": [card.name], "suite": size.preset, "parameters": lean}
        made.append(Known(Setting("bundled", subjects, options, groups), {}))
    made.append(planted.known(card, size, seed, out, groups=groups))
    return made


def write(audit: Audit, folder: Path) -> Path:
    """Write an audit to ``folder``, and return the file."""
    path = folder / f"{audit.task}.json"
    folder.mkdir(parents=True, exist_ok=True)
    text = audit.model_dump_json(indent=1) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))
    return path


Contributions = dict[tuple[str, str, str], Scored]  # by SAE, metric and subset


def _contributions(measured: Measured, known: Sequence[Known], out: Path, seed: int) -> dict[Where, Contributions]:
    """Return the numbers of trained SAEs under the first seed, with the contributions of their units, by model."""
    found: dict[Where, Contributions] = {}
    for entry in known:
        where, trained = entry.setting.where, set(entry.setting.subjects.trained)
        chosen = [
            (call, record)
            for call, record in measured
            if (call.where, call.purpose) == (where, "values")
            and record.identity.sae in trained
            and record.measurements
        ]
        if not chosen:
            continue
        collection = Collection([chosen[0][0].folder(out)])
        for _, record in chosen:
            for (_, metric, subset), scored in scores(*collection.measured(record)).items():
                found.setdefault(where, {})[record.identity.sae, metric, subset] = scored
    return found


def _components(
    entry: Values, known: Sequence[Known], contributions: dict[Where, Contributions], size: Size
) -> Components | None:
    for one in known:
        where = one.setting.where
        of_metric = [
            scored
            for (_, metric, subset), scored in contributions.get(where, {}).items()
            if (metric, subset) == (entry.metric.id, entry.subset)
        ]
        pair = noise_of(entry, one).pair.value
        preset = size.preset if where == "bundled" else "planted"
        if found := components.components(of_metric, pair, preset):
            return found
    return None
