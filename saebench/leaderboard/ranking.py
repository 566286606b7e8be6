"""Ranks with their uncertainty: mean ranks over tasks, places that undecided rows share, and intervals of the rank.

The statistic: within a metric, rows are ranked (1 is best; ties share the average rank). The rank of a task is the mean
over its metrics, and the mean rank of a row is the mean over tasks. Only complete rows are ranked, so that every row
has every number.

Its uncertainty: units (sequences, datasets, ...) are drawn with replacement, the same units for all rows, and all ranks
are computed again. The row with the lower mean rank of two is *decidedly better* when the other one catches up in no
more than 2.5 % of the draws. The deviations of the draws are stretched first, by sqrt(n / (n - 1)) times the ratio of
Student's quantile to the normal one (the expanded percentile interval, Hesterberg, 1411.5279), because some n are as
small as 12.

The result: ``place`` to ``shared_to`` considers each pair alone. It ranges from 1 + the number of rows that are
decidedly better to the number of rows that are not decidedly worse. The interval of the rank, ``low`` to ``high``, is
made in the same way, with deviations stretched further, so that it holds for all pairs at once (Bonferroni). It inverts
pairwise comparisons (Mogstad, Romano, Shaikh and Wilhelm, Review of Economic Studies 2024); quantiles of bootstrapped
ranks would miss the true rank near ties and at both ends of a board (Hall and Miller, Annals of Statistics 2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import rankdata

from saebench.results.paired import Scored
from saebench.results.units import OWN_UNITS
from saebench.stats.intervals import CONFIDENCE, ratio, resampling_weights
from saebench.stats.rng import generator

REPLICATES = 4000
_TAIL = (1 - CONFIDENCE) / 2
_MOST_RESAMPLED = 20_000  # units; the draws of more would not fit the memory, and the stated interval is as good
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """One metric of all rows. A row whose score or value is None has not completed the task."""

    task: str
    metric: str
    higher_is_better: bool
    scores: tuple[Scored | None, ...]


@dataclass(frozen=True)
class Rank:
    """The rank of one row, with ``low <= place <= shared_to <= high``. The module explains what each one means."""

    place: int
    shared_to: int
    mean: float  # the mean rank
    low: int
    high: int


@dataclass(frozen=True)
class Ranking:
    """The ranks of all rows of a board."""

    ranks: tuple[Rank | None, ...]  # None for incomplete and ineligible rows, and where fewer than two can be ranked
    tasks: tuple[str, ...]  # the tasks that decide the ranks
    completed: tuple[int, ...]  # how many of these tasks each row has completed


def rank(
    columns: Sequence[Column], eligible: Sequence[bool], *, replicates: int = REPLICATES, seed: int = 0
) -> Ranking:
    """Rank the rows of ``columns``. Metrics that no eligible row has scored do not count.

    Args:
        columns: The metrics, each with the scores of all rows.
        eligible: Whether each row may be ranked; controls may not.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap draws.
    """
    counted = [c for c in columns if any(_scored(score) for score, may in zip(c.scores, eligible, strict=True) if may)]
    tasks = tuple(dict.fromkeys(column.task for column in counted))
    missing = [{c.task for c in counted if not _scored(c.scores[row])} for row in range(len(eligible))]
    rows = [row for row, may in enumerate(eligible) if may and tasks and not missing[row]]
    ranks: list[Rank | None] = [None] * len(eligible)
    if len(rows) > 1:
        complete = [_Complete(column, rows) for column in counted]
        for row, its_rank in zip(rows, _ranks(complete, len(rows), replicates, seed), strict=True):
            ranks[row] = its_rank
    return Ranking(tuple(ranks), tasks, tuple(len(tasks) - len(lacks) for lacks in missing))


def mean_rank(values: Sequence[tuple[str, Array]]) -> Array:
    """Return mean ranks ``[rows, ...]`` from the (task, values ``[rows, ...]``) of each metric; lower is better."""
    by_task: dict[str, list[Array]] = {}
    for task, value in values:
        by_task.setdefault(task, []).append(np.asarray(rankdata(value, axis=0), float))
    return np.mean([np.mean(of_task, axis=0) for of_task in by_task.values()], axis=0)


def _scored(score: Scored | None) -> bool:
    return score is not None and score.value is not None


class _Complete:
    """A metric of the complete rows, signed so that lower is better: values ``[rows]`` and their bootstrap."""

    def __init__(self, column: Column, rows: Sequence[int]) -> None:
        self.task, self.name = column.task, f"{column.task}/{column.metric}"
        self.sign = -1.0 if column.higher_is_better else 1.0
        self.scores = [score for row in rows if (score := column.scores[row]) is not None]
        self.values = self.sign * np.array([score.value for score in self.scores], float)

    def draws(self, weights: Callable[[int], Array], replicates: int, tail: float, seed: int) -> Array:
        """Return draws ``[rows, replicates]``, stretched so that 2.5 % of them lie beyond the quantile of ``tail``."""
        counts = {len(score.num) for score in self.scores if score.num is not None}
        contents = {score.units for score in self.scores if score.units}
        same = len(counts) == 1 and len(contents) <= 1
        paired = same and not OWN_UNITS & {score.unit for score in self.scores}
        rng = generator(seed, f"rank:{self.name}")
        drawn = np.empty((len(self.scores), replicates))
        for row, score in enumerate(self.scores):
            # Drawn for every row, even where it is not used, so that no row changes the draws of another.
            normal = rng.standard_normal(replicates)
            deviations = _resampled(score, weights, tail) if paired else None
            if deviations is None:
                spread = _spread(score)
                # A number without any stated uncertainty is unknown: it may end up at either end of the ranking.
                deviations = np.where(normal < 0, -np.inf, np.inf) if math.isnan(spread) else spread * normal
                deviations *= ndtri(tail) / ndtri(_TAIL)
            drawn[row] = self.values[row] + self.sign * deviations
        return drawn


def _resampled(score: Scored, weights: Callable[[int], Array], tail: float) -> Array | None:
    """Return the deviations ``[replicates]`` when units are drawn; None where that is impossible."""
    if score.num is None or score.den is None or not 2 <= (n := len(score.num)) <= _MOST_RESAMPLED:
        return None
    drawn, total = weights(n), float(np.sum(score.den))
    denominators = drawn @ score.den
    if np.any(denominators * total <= 0):  # the ratio would pass through infinity
        return None
    stretch = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, tail) / ndtri(_TAIL))
    deviations = drawn @ score.num / denominators - ratio(score.num, score.den)
    # Rounding errors must not break the ties of numbers that are equal in every draw.
    exact = np.abs(deviations) <= 1e-12 * max(abs(float(score.value or 0.0)), float(np.abs(deviations).max()))
    return stretch * np.where(exact, 0.0, deviations)


def _spread(score: Scored) -> float:
    """Return the standard error, or that of a normal interval of the same width if it is larger; NaN if unknown."""
    spreads = [math.nan if score.stderr is None else score.stderr]
    if score.ci_low is not None and score.ci_high is not None:
        spreads.append((score.ci_high - score.ci_low) / 2 / -float(ndtri(_TAIL)))
    return float(np.fmax.reduce(spreads))


def _ranks(columns: Sequence[_Complete], n_rows: int, replicates: int, seed: int) -> list[Rank]:
    drawn: dict[int, Array] = {}

    def weights(n_units: int) -> Array:
        """Return draws that rows, metrics and tasks share: what is measured on the same text is drawn together."""
        if n_units not in drawn:
            drawn[n_units] = resampling_weights(n_units, replicates, generator(seed, f"rank:{n_units}"))
        return drawn[n_units]

    point = mean_rank([(column.task, column.values) for column in columns])
    pairs = n_rows * (n_rows - 1) / 2
    (place, shared_to), (low, high) = (
        _range(point, mean_rank([(c.task, c.draws(weights, replicates, tail, seed)) for c in columns]))
        for tail in (_TAIL, _TAIL / pairs)
    )
    return [
        # What is decided for all pairs at once is decided for each alone, except for the noise of finitely many draws.
        Rank(
            int(place[i]),
            int(shared_to[i]),
            float(point[i]),
            int(min(low[i], place[i])),
            int(max(high[i], shared_to[i])),
        )
        for i in range(n_rows)
    ]


def _range(point: Array, drawn: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each row, 1 + the number of rows decidedly better, and the number of rows not decidedly worse."""
    n_rows, replicates = drawn.shape
    better, worse = np.zeros(n_rows, np.int64), np.zeros(n_rows, np.int64)
    for row in range(n_rows):
        against = np.sum(drawn <= drawn[row], axis=1)  # in how many draws each other row is at least as good
        decided = (point > point[row]) & ((against + 1) / (replicates + 1) <= _TAIL)
        better += decided
        worse[row] = decided.sum()
    return 1 + better, n_rows - worse
