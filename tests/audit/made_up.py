"""Audits and values made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from saebench.audit.assemble import Known
from saebench.audit.calls import Purpose, Setting, Where
from saebench.audit.measure import Number, Values
from saebench.audit.subjects import Subjects
from saebench.cards.audits import Audit, Components, Figure, Finding, MetricAudit
from saebench.cards.card import MetricSpec

SUBJECTS = Subjects(
    trained=("t0", "t1", "t2"),
    controls=("random", "frozen", "permuted"),
    permuted="permuted",
    adversaries=("norm", "empty"),
    dense=("identity",),
    rewritten={"another order of latents": "reordered"},
    known=("oracle", "noisy", "noisier", "bad", "worse", "random"),
    oracle="oracle",
    steps={"s1": 10, "s2": 100, "s3": 1000, "t0": 3000},
)
QUALITY = {"oracle": 1.0, "noisy": 0.9, "noisier": 0.7, "bad": 0.4, "worse": 0.2, "random": 0.1}
# What a sound metric gives; lower down it is changed in one place at a time.
SOUND = {
    **{sae: 10 * value for sae, value in QUALITY.items()},
    **{"t0": 5.0, "t1": 6.0, "t2": 7.0, "s1": 2.0, "s2": 3.0, "s3": 4.0},
    **{"frozen": 1.5, "permuted": 0.5, "norm": 0.0, "empty": 0.0, "identity": 1.0, "reordered": 5.0},
}


def spec(**changed: Any) -> MetricSpec:
    facts: dict[str, Any] = {
        "id": "score",
        "title": "Score",
        "description": "D",
        "unit": "points",
        "higher_is_better": True,
        "bounds": [None, None],
        "primary": True,
        "interval": "none",
    }
    return MetricSpec(**{**facts, **changed})


def known(where: Where = "planted", quality: Mapping[str, float] = QUALITY, **changed: Any) -> Known:
    return Known(Setting(where, replace(SUBJECTS, **changed), {}), quality)


def values(numbers: Mapping[str, float], *, where: Where = "planted", noise: float = 0.01, **changed: Any) -> Values:
    """Return values whose trained SAEs move a little with the seed, and not with number types and batches."""
    made = Values(spec(**changed), "")

    def add(purpose: Purpose, sae: str, seed: int, value: float) -> None:
        made.numbers.append(Number(where, purpose, sae, seed, value))

    for sae, value in numbers.items():
        add("values", sae, 0, value)
    for number, sae in enumerate(SUBJECTS.trained):
        for seed in range(1, 5):
            add("seeds", sae, seed, numbers[sae] + noise * ((seed * (number + 2)) % 3 - 1))
        add("bfloat16", sae, 0, numbers[sae])
    add("batch", "t0", 0, numbers["t0"])
    return made


def finding(worst: str = "A", says: str = "It is so.", **figures: float) -> Finding:
    return Finding(
        passed=worst == "A",
        worst=worst,  # type: ignore[arg-type]
        says=says,
        figures={
            name: Figure(value=value, ci_low=value - 1, ci_high=value + 1, n=5) for name, value in figures.items()
        },
    )


def audit(task: str = "core", version: int = 1, grade: str = "B", **metrics: str) -> Audit:
    """Return an audit with the metric ``score`` of this grade, or with the metrics and grades that are named."""
    entries = [
        MetricAudit(
            metric=metric,
            grade=letter,  # type: ignore[arg-type]
            reason="It moves.",
            lenses={"noise": finding(letter, run=1.0, share=0.5), "truth": finding(correlation=0.5)},
            components=Components(unit="document", n=16, per_unit=0.5, rest=0.1, preset="quick"),
        )
        for metric, letter in (metrics or {"score": grade}).items()
    ]
    how = {"device": "cpu (a CPU)", "git_commit": "0123456789abcdef", "wall_seconds": 90.0}
    return Audit(
        task=task, task_version=version, seed=0, size="default", rules=1, metrics=entries, records=3, provenance=how
    )
