"""Audits: how far each primary metric of a task can be believed, as `saebench audit` measured it.

An audit is one JSON file for each task. The files are in ``audits/`` of the repository; in the wheel they are in
``saebench/_audits/``; that of a plug-in is in the folder ``audits`` beside its card. Every metric has a *grade*: A
ranks SAEs, B ranks them with a warning, C is shown and never ranked. A grade holds for the version of the task that
was audited and for no other.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from saebench.cards.registry import registry
from saebench.errors import SaebenchError, UsageError
from saebench.files import read_small

Letter = Literal["A", "B", "C"]
Lens = Literal["noise", "truth", "training", "precision", "gaming", "invariance"]
LENSES: tuple[Lens, ...] = get_args(Lens)
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figure(_Strict):
    """One number of an audit with its 95 % interval; ``value`` is None where it could not be measured."""

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None  # from how many SAEs, runs or pairs


class Finding(_Strict):
    """The finding of one lens about one metric.

    Attributes:
        passed: Whether the metric may have the grade A as far as this lens is concerned; None if it was not measured.
        worst: The best grade that the finding allows.
        says: The finding in one sentence.
        figures: Its numbers by name; `saebench.audit.lenses` defines them.
        names: SAEs that the sentence is about, such as those that win by cheating.
    """

    passed: bool | None
    worst: Letter
    says: Text
    figures: dict[str, Figure] = {}
    names: list[str] = []


class Components(_Strict):
    """Where the noise of a difference between two SAEs comes from, as standard deviations.

    With n units, the difference of two SAEs under one seed has the variance per_unit^2 / n + rest^2.

    Attributes:
        unit: What a unit is, such as "document".
        n: How many the audited preset measures.
        per_unit: The standard deviation of the paired difference of one unit, the median over pairs of trained SAEs.
        rest: What more units do not take away: the draw of latents, settings and samples.
        preset: The preset.
    """

    unit: str
    n: int
    per_unit: float
    rest: float
    preset: str


class MetricAudit(_Strict):
    """One metric: its grade with the reason, what each lens saw, and where its noise comes from."""

    metric: str
    subset: str = ""
    grade: Letter
    reason: Text
    lenses: dict[Lens, Finding]
    components: Components | None = None


class Audit(_Strict):
    """The audit of one version of a task."""

    schema_version: Literal[1] = 1
    task: str
    task_version: int
    seed: int  # the first seed of evaluations; the others follow it
    size: str
    rules: int  # the version of the rules of grading
    metrics: list[MetricAudit]
    records: int
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Grade:
    """A grade as tables show it."""

    letter: Letter
    reason: str

    @property
    def ranks(self) -> bool:
        """Whether boards may rank SAEs by the metric."""
        return self.letter != "C"


def audits_dir() -> Path:
    """Return the folder of the built-in audits: inside the installed package, or ``audits/`` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    bundled = package / "_audits"
    return bundled if bundled.is_dir() else package.parent / "audits"


def load_audit(path: Path) -> Audit:
    """Return the audit in ``path``. Raises UsageError, naming the file, if it is unreadable or wrong."""
    try:
        return Audit.model_validate_json(read_small(path, "audit", UsageError))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"The audit {path} is wrong: {place}: {first['msg']}; run `saebench audit` again.") from error


def audit_path(task: str) -> Path:
    """Return where the audit of an installed task is, whether or not the file exists."""
    card_folder = registry().folder(task)
    return (audits_dir() if card_folder is None else card_folder / "audits") / f"{task}.json"


@functools.cache
def audit_of(task: str) -> Audit | None:
    """Return the audit of an installed task, of whatever version; None if there is none or it cannot be read."""
    try:
        path = audit_path(task)
        return load_audit(path) if path.is_file() else None
    except SaebenchError:
        return None


def grade_of(task: str, version: int, metric: str) -> Grade | None:
    """Return the grade of a metric of this version of a task; None where that was not audited."""
    audit = audit_of(task)
    if audit is None or audit.task_version != version:
        return None
    found = next((entry for entry in audit.metrics if entry.metric == metric), None)
    return None if found is None else Grade(found.grade, found.reason)


def letter_of(task: str, version: int, metric: str) -> str:
    """Return the grade of a metric as a letter; empty where this version of the task was not audited."""
    grade = grade_of(task, version, metric)
    return grade.letter if grade else ""


def grade_facts(task: str, version: int, metric: str) -> dict[str, str | None]:
    """Return the grade and its reason as boards and sites keep them; None and "" where there is no grade."""
    grade = grade_of(task, version, metric)
    return {"grade": grade.letter if grade else None, "grade_reason": grade.reason if grade else ""}


def graded(label: str, letter: str) -> str:
    """Return the name of a metric as tables show it, with its grade in brackets."""
    return f"{label} [{letter}]" if letter else label


def stale(task: str) -> str:
    """Say why the audit of an installed task does not hold for its card, in a sentence; empty where it holds."""
    audit, card = audit_of(task), registry().card(task)
    if audit is None:
        return f"{task} v{card.version} was never audited; `saebench audit {task}` does it."
    if audit.task_version != card.version:
        return (
            f"The grades of {task} have expired: version {audit.task_version} was audited, and the card is version "
            f"{card.version}; `saebench audit {task}` measures them again."
        )
    known = {entry.metric for entry in audit.metrics}
    if missing := [spec.id for spec in card.metrics if spec.primary and spec.id not in known]:
        return f"The audit of {task} lacks its primary metric {missing[0]}; `saebench audit {task}` measures it."
    return ""
