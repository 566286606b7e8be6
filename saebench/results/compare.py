"""Comparing two SAEs number by number: paired differences with verdicts, and the reason where there is no difference.

A verdict is about the second SAE: "better" means that it is better than the first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from saebench.cards.audits import letter_of
from saebench.cards.registry import registry
from saebench.errors import SaebenchError
from saebench.results.array_file import DamagedRecordError
from saebench.results.identity import inputs_by_content
from saebench.results.paired import Difference, Key, Scored, difference, holm, mismatches, scores
from saebench.results.record import Arrays, Record, Status
from saebench.results.units import other_units

LEVEL = 0.05
Measured = tuple[Record, Arrays]
Read = tuple[Record, Arrays | DamagedRecordError]  # a record with its arrays, or with what is wrong with them


class Verdict(StrEnum):
    """The verdict on the second SAE, in the direction that the card gives the metric."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Line:
    """One number of both SAEs, and their difference.

    Attributes:
        difference: The second number minus the first, in the metric's unit.
        p_holm: The p-value, corrected for all metrics of the comparison; NaN without an interval.
        reliable: The smallest absolute difference that would be significant at this noise if this were the only
            metric; NaN without an interval.
        reliable_holm: The same beside the other metrics of the comparison and their p-values. The verdict is decided
            exactly where the difference is larger.
        verdict: None for a metric without a direction.
        grade: How far the metric can be believed (`saebench.cards.audits`); "" where it was not audited.
    """

    metric: str
    subset: str
    a: Scored
    b: Scored
    difference: Difference
    higher_is_better: bool | None
    primary: bool
    grade: str = ""
    p_holm: float = math.nan
    reliable: float = math.nan
    reliable_holm: float = math.nan
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Pair:
    """Two records of one task that can be compared, and their numbers."""

    a: Record
    b: Record
    lines: list[Line]


@dataclass(frozen=True)
class Excluded:
    """Something that was not compared, with the reason: one number, or all of a task (metric "")."""

    task: str
    metric: str
    subset: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What `compare` found."""

    pairs: list[Pair]
    excluded: list[Excluded]
    more: int  # how many numbers are in the records of both SAEs, but were not asked for

    def lines(self) -> list[Line]:
        return [line for pair in self.pairs for line in pair.lines]


def compare(
    a: Iterable[Read],
    b: Iterable[Read],
    *,
    wanted: Mapping[str, Sequence[str]] | None = None,
    subsets: bool = False,
    replicates: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare the records ``a`` of one SAE with the records ``b`` of another.

    Records are paired where task, version, parameters, language model, data and seed are equal. They are not compared
    if their units (sequences, for example) differ nevertheless. If several records of one SAE are equal in all of
    these, the newest that is not damaged counts. The directions of metrics come from the installed task cards.

    Args:
        a: The records of the first SAE, each with its arrays, or with the error where these are damaged. Such a record
            is not compared, and the error is the reason.
        b: The records of the second SAE, likewise.
        wanted: The metrics of each task, in order. A task that it does not name comes last, with all of its metrics.
        subsets: Whether to compare subsets, too. Otherwise a metric is compared on all of the data (subset ""), or on
            its subsets where it has no such number.
        replicates: Bootstrap replicates of the intervals.
        seed: Seed of the bootstrap draws.
    """
    paired, excluded = _pair(a, b)
    pairs, more = [], 0
    order = {task: place for place, task in enumerate(wanted or {})}
    for one, other in sorted(paired, key=lambda pair: order.get(pair[0][0].identity.task, len(order))):
        ours, theirs = scores(*one), scores(*other)
        task = one[0].identity.task
        keys = list(_keys([*ours, *theirs], (wanted or {}).get(task), subsets))
        more += len((ours.keys() & theirs.keys()) - set(keys))
        lines = []
        for key in keys:
            change = _difference(ours.get(key), theirs.get(key), replicates, seed)
            if isinstance(change, str):
                excluded.append(Excluded(*key, change))
                continue
            spec = registry().metric(task, one[0].identity.task_version, key[1])
            direction, primary = (spec.higher_is_better, spec.primary) if spec else (None, False)
            grade = letter_of(task, one[0].identity.task_version, key[1])
            lines.append(Line(key[1], key[2], ours[key], theirs[key], change, direction, primary, grade))
        pairs.append(Pair(one[0], other[0], lines))
    return Comparison(_judged(pairs), excluded, more)


def _pair(a: Iterable[Read], b: Iterable[Read]) -> tuple[list[tuple[Measured, Measured]], list[Excluded]]:
    ours, theirs = _newest(a), _newest(b)
    pairs: list[tuple[Measured, Measured]] = []
    excluded = []
    for key in sorted({*ours, *theirs}):
        if key not in ours or key not in theirs:
            excluded.append(_alone(key, ours, theirs))
            continue
        (one, one_arrays), (other, other_arrays) = ours[key], theirs[key]
        sides = (("A", one, one_arrays), ("B", other, other_arrays))
        excluded += [Excluded(one.identity.task, "", "", why) for side in sides if (why := _unusable(*side))]
        if isinstance(one_arrays, DamagedRecordError) or isinstance(other_arrays, DamagedRecordError):
            continue
        if differ := other_units(one.units, other.units):
            reason = f"{' '.join(differ)} Run both again with --overwrite always."
            excluded.append(Excluded(one.identity.task, "", "", reason))
            continue
        if one.status is Status.OK and other.status is Status.OK:
            pairs.append(((one, one_arrays), (other, other_arrays)))
    return pairs, list(dict.fromkeys(excluded))  # one reason may exclude a record of A and a record of B


def _newest(measured: Iterable[Read]) -> dict[str, Read]:
    """Return the newest record of each setting that is not damaged, or a damaged one where there is no other.

    The keys hold all that `mismatches` compares, except the units, and sort by task.
    """
    newest: dict[str, Read] = {}
    for record, arrays in measured:
        who = record.identity
        key = json.dumps(
            [who.task, who.task_version, who.seed, *inputs_by_content(who), who.model_fingerprint, who.dtype],
            sort_keys=True,
        )
        if key not in newest or _rank(newest[key]) < _rank((record, arrays)):
            newest[key] = record, arrays
    return newest


def _rank(read: Read) -> tuple[bool, datetime]:
    record, arrays = read
    return not isinstance(arrays, DamagedRecordError), record.provenance.created


def _alone(key: str, ours: Mapping[str, Read], theirs: Mapping[str, Read]) -> Excluded:
    """Say why the record with this key has no partner: how the most similar record of the other side differs."""
    side, own, others = ("A", ours, theirs) if key in ours else ("B", theirs, ours)
    record, arrays = own[key]
    task = record.identity.task
    candidates = [other for other, _ in others.values() if other.identity.task == task]
    if why := _unusable(side, record, arrays):
        return Excluded(task, "", "", why)
    if not candidates:
        return Excluded(task, "", "", f"only {side} has a record of it")
    obstacles = [mismatches(record, other) if side == "A" else mismatches(other, record) for other in candidates]
    fewest = min(obstacles, key=len)
    return Excluded(task, "", "", " ".join(fewest))


def _unusable(side: str, record: Record, arrays: Arrays | DamagedRecordError) -> str:
    """Say why a record cannot be compared with any; empty when it can."""
    if record.status is not Status.OK:
        return f"{side}: {record.status.value.replace('_', ' ')}: {record.error}"
    return f"{side}: {arrays}" if isinstance(arrays, DamagedRecordError) else ""


def _keys(known: Sequence[Key], wanted: Sequence[str] | None, subsets: bool) -> Iterator[Key]:
    known = list(dict.fromkeys(known))
    for metric in dict.fromkeys(wanted if wanted is not None else [metric for _, metric, _ in known]):
        of_metric = [key for key in known if key[1] == metric]
        whole = [key for key in of_metric if not key[2]]
        yield from of_metric if subsets or not whole else whole


def _difference(a: Scored | None, b: Scored | None, replicates: int, seed: int) -> Difference | str:
    """Return the difference, or the reason why there is none."""
    if a is None or b is None:
        return f"only {'B' if a is None else 'A'} has this number"
    if reasons := [f"not scored for {side}: {x.not_scored}" for side, x in (("A", a), ("B", b)) if x.value is None]:
        return "; ".join(reasons)
    try:
        change = difference(a, b, replicates=replicates, seed=seed)
    except SaebenchError as error:
        return str(error)
    return change if math.isfinite(change.value) else "the units that both have scored give no finite difference"


def _judged(pairs: Sequence[Pair]) -> list[Pair]:
    """Return ``pairs`` with what depends on all p-values: corrections, reliable differences and verdicts."""
    p = [line.difference.p for pair in pairs for line in pair.lines]
    corrected, levels = iter(holm(p)), iter(holm_levels(p))
    return [replace(pair, lines=[_judge(line, next(corrected), next(levels)) for line in pair.lines]) for pair in pairs]


def _judge(line: Line, p_holm: float, level: float) -> Line:
    return replace(
        line,
        p_holm=p_holm,
        reliable=line.difference.margin(LEVEL),
        reliable_holm=line.difference.margin(level),
        verdict=verdict(line.difference.value, p_holm, line.higher_is_better),
    )


def verdict(value: float, p: float, higher_is_better: bool | None) -> Verdict | None:
    """Return the verdict on the second SAE.

    Args:
        value: The number of the second SAE minus that of the first.
        p: The corrected p-value; NaN, when no test was made, leaves it undecided.
        higher_is_better: The metric's direction; without one (None) there is no verdict (None).
    """
    if higher_is_better is None:
        return None
    if not p < LEVEL:
        return Verdict.UNDECIDED
    return Verdict.BETTER if (value > 0) == higher_is_better else Verdict.WORSE


def holm_levels(p: Sequence[float]) -> list[float]:
    """Return the level below which each p-value is rejected by Holm's rule while the other p-values stay as they are.

    For m tests, of which K others are rejected when this one is left out of the order, the level is 0.05 / (m - K). It
    is NaN where there is no test (p is NaN).
    """
    order = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    tests = len(order)
    levels = [math.nan] * len(p)
    for _, i in order:
        others = [value for value, j in order if j != i]
        rejected = next((k for k, value in enumerate(others) if value >= LEVEL / (tests - k)), len(others))
        levels[i] = LEVEL / (tests - rejected)
    return levels
