"""The strata of a board: rows that share language model, hook, preset and width class are ranked among each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from saebench.cards.audits import grade_facts
from saebench.cards.card import MetricSpec
from saebench.cards.registry import registry
from saebench.leaderboard.board import Board
from saebench.leaderboard.gather import Gathered, Place, Subject
from saebench.leaderboard.ranking import Column, Rank, rank
from saebench.results.paired import Scored, scores
from saebench.results.record import Record, SAEInfo, Status
from saebench.results.slug import slug

# A latent that is active takes two numbers to state (which it is, and how strong), so from this share of the width of
# the activation on, the activation itself is the shorter description.
DENSE = 0.5

Json = dict[str, Any]
Metric = tuple[str, MetricSpec]  # the task's name, and what its card says about the metric


@dataclass(frozen=True)
class _Row:
    """A subject with its record of each task, and its numbers over all of the data (subset "") by (task, metric)."""

    id: str
    records: dict[str, Record]
    numbers: dict[tuple[str, str], Scored]

    @property
    def sae(self) -> SAEInfo:
        return next(iter(self.records.values())).sae

    @property
    def l0(self) -> float | None:
        """How many latents are active per token, if a task says so."""
        return next((record.sae.l0 for record in self.records.values() if record.sae.l0 is not None), None)

    @property
    def unranked(self) -> str:
        """Why an SAE that is no control must not be ranked: its code is dense. Empty where it may be."""
        l0, d_in = self.l0, self.sae.d_in
        if self.sae.control or l0 is None or d_in < 1 or l0 < DENSE * d_in:
            return ""
        return (
            f"It is not ranked, because its code is dense: {l0:.4g} latents are active per token, and the activation "
            f"has {d_in} dimensions."
        )


def strata(board: Board, gathered: Gathered) -> list[Json]:
    """Return all strata that have an SAE or group that is not a control.

    A control whose width class has a stratum is shown in that one; any other control is shown in every stratum.
    """
    made = []
    for place in sorted(gathered.tasks):
        rows = _rows(board, gathered, place)
        widths = {_width(board, row): None for row in rows if not row.sae.control}
        for width in sorted(widths, key=lambda name: (len(name), name)):
            beside = [row for row in rows if _width(board, row) == width or _width(board, row) not in widths]
            made.append(_stratum(board, place, width, beside))
    return made


def width_class(d_sae: int) -> str:
    """Return the power of two that is nearest in ratio: 24,576 latents are in one class with 32,768."""
    return str(1 << round(math.log2(d_sae))) if d_sae > 0 else "unknown"


def _width(board: Board, row: _Row) -> str:
    return width_class(row.sae.d_sae) if "width" in board.strata else "all"


def _rows(board: Board, gathered: Gathered, place: Place) -> list[_Row]:
    """Return the rows that have a number or a failure to show. Some records have numbers on subsets only."""
    shown = {(task, spec.id) for task in board.tasks for spec in board.columns(task)}
    by_subject: dict[Subject, dict[str, Record]] = {}
    for task in board.tasks:
        for subject, record in gathered.tasks[place].get(task, {}).items():
            by_subject.setdefault(subject, {})[task] = record
    rows = []
    for subject, records in sorted(by_subject.items()):
        numbers = {
            (task, metric): scored
            for record in records.values()
            if record.status is Status.OK
            for (task, metric, subset), scored in scores(record, gathered.arrays(record)).items()
            if subset == ""
        }
        if shown & numbers.keys() or any(record.status is not Status.OK for record in records.values()):
            rows.append(_Row(gathered.slugs[subject], records, numbers))
    return rows


def _stratum(board: Board, place: Place, width: str, rows: list[_Row]) -> Json:
    metrics: list[Metric] = [(task, spec) for task in board.tasks for spec in board.columns(task)]
    metrics = [(task, spec) for task, spec in metrics if any((task, spec.id) in row.numbers for row in rows)]
    deciding = {(task, spec.id) for task in board.tasks for spec in board.ranked(task)}
    columns = [
        Column(task, spec.id, bool(spec.higher_is_better), tuple(row.numbers.get((task, spec.id)) for row in rows))
        for task, spec in metrics
        if (task, spec.id) in deciding
    ]
    ranking = rank(columns, [not row.sae.control and not row.unranked for row in rows])
    shown = [
        _row(row, place, metrics, rank_, completed, len(ranking.tasks))
        for row, rank_, completed in zip(rows, ranking.ranks, ranking.completed, strict=True)
    ]
    counted = {(column.task, column.metric) for column in columns if column.task in ranking.tasks}
    parts = [place.model, place.hook, f"w{width}", place.preset, *(["groups"] if place.groups else [])]
    return {
        "id": slug(" ".join(parts)),
        "model": place.model,
        "hook": place.hook,
        "width": width,
        "preset": place.preset,
        "groups": place.groups,
        "metrics": [_metric(task, spec, (task, spec.id) in counted) for task, spec in metrics],
        "rows": sorted(shown, key=_position),
    }


def _metric(task: str, spec: MetricSpec, ranked: bool) -> Json:
    facts = spec.model_dump(
        include={"title", "description", "unit", "higher_is_better", "bounds", "chance", "reliability"}
    )
    return {
        "key": f"{task}/{spec.id}",
        "task": task,
        "metric": spec.id,
        "subset": "",
        "ranked": ranked,
        **grade_facts(task, registry().card(task).version, spec.id),
        **facts,
    }


def _row(row: _Row, place: Place, metrics: list[Metric], rank_: Rank | None, completed: int, of: int) -> Json:
    return {
        "id": row.id,
        "sae": row.sae.name,
        "architecture": row.sae.architecture,
        "d_sae": row.sae.d_sae,
        "l0": row.l0,
        "control": row.sae.control,
        "unranked": row.unranked,
        "group": place.groups,
        "completed": completed,
        "of": of,
        "rank": None if rank_ is None else dict(vars(rank_)),
        "values": {f"{task}/{spec.id}": _value(row, task, spec.id) for task, spec in metrics},
    }


def _value(row: _Row, task: str, metric: str) -> Json:
    scored, record = row.numbers.get((task, metric)), row.records.get(task)
    if scored is None:
        reason = "not measured" if record is None or record.status is Status.OK else record.error
        return {"value": None, "ci_low": None, "ci_high": None, "n": None, "unit": "", "not_scored": reason}
    return {
        "value": scored.value,
        "ci_low": scored.ci_low,
        "ci_high": scored.ci_high,
        "n": scored.n,
        "unit": scored.unit,
        "not_scored": scored.not_scored,
    }


def _position(row: Json) -> tuple[bool, bool, float, str, str]:
    """Sort ranked rows first, by mean rank, then incomplete ones, then controls."""
    rank_ = row["rank"]
    return row["control"], rank_ is None, rank_["mean"] if rank_ else 0.0, row["sae"], row["id"]
