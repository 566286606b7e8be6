"""Verdicts: which numbers are worse than those of the baseline, and which cannot be compared with them.

A metric fails if it is worse, in the direction of its card, by more than the tolerance *and* the 95 % interval of the
paired difference excludes 0. A metric that cannot be compared fails, too: otherwise it would look like a pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

import numpy as np

from saebench.cards.audits import letter_of
from saebench.cards.registry import registry
from saebench.errors import SaebenchError, UsageError, did_you_mean
from saebench.regression.baseline import Baseline, Entry
from saebench.results.paired import Difference, Key, Scored, difference, mismatches
from saebench.results.units import OWN_UNITS

UPDATE, NEW_ONLY = "--saebench-update", "--saebench-update-new-only"
Amount = float | str  # 0.01 is in the metric's unit; "2%" is a share of the baseline's absolute value
Tolerance = Amount | Mapping[str, Amount]


class Verdict(StrEnum):
    """The verdict on one metric."""

    BETTER = "better"
    WITHIN = "within tolerance"
    UNDECIDED = "undecided"  # changed by more than the tolerance, but it may be chance
    NO_DIRECTION = "no direction"
    WORSE = "worse"
    NOT_COMPARABLE = "not comparable"
    WRITTEN = "written"  # written into the baseline, so there is nothing to compare

    @property
    def fails(self) -> bool:
        return self in (Verdict.WORSE, Verdict.NOT_COMPARABLE)


@dataclass(frozen=True)
class Row:
    """One metric: both numbers, their difference (now - baseline), and the verdict."""

    key: Key
    higher_is_better: bool | None
    baseline: Scored | None
    now: Scored | None
    verdict: Verdict
    difference: Difference | None = None
    tolerance: float | None = None  # in the metric's unit
    reason: str = ""  # why it cannot be compared, and what to do about it
    grade: str = ""  # how far the metric can be believed; "" where it was not audited


def matches(pattern: str, key: Key) -> bool:
    """Return whether ``pattern`` names ``key``.

    A pattern is METRIC or TASK/METRIC, which mean the number over all of the data, or TASK/METRIC/SUBSET. Each part may
    hold the wildcards ``*``, ``?`` and ``[...]``.
    """
    task, metric, subset = key
    parts = pattern.split("/", 2)
    if len(parts) == 3:
        names: tuple[str, ...] = key
    else:
        names = (metric,) if len(parts) == 1 else (task, metric)
        if subset:
            return False
    return all(fnmatchcase(name, part) for name, part in zip(names, parts, strict=True))


def named(patterns: Iterable[str], known: Iterable[Key], what: str) -> set[Key]:
    """Return the keys of ``known`` that any of ``patterns`` names.

    Args:
        patterns: Patterns as `matches` takes them.
        known: The keys that exist.
        what: The argument that holds the patterns, for the error message.

    Raises:
        UsageError: A pattern names no key.
    """
    known, keys = list(known), set()
    for pattern in patterns:
        fitting = {key for key in known if matches(pattern, key)}
        if not fitting:
            names = [name for key in known for name in (key[1], f"{key[0]}/{key[1]}", "/".join(key))]
            raise UsageError(f"{what}: no measured metric is called {pattern!r}.{did_you_mean(pattern, names)}")
        keys |= fitting
    return keys


def direction(key: Key, version: int) -> bool | None:
    """Return whether higher is better for ``key``; None without a direction, and for a task version that is missing."""
    spec = registry().metric(key[0], version, key[1])
    return spec.higher_is_better if spec else None


def tolerance_of(tolerance: Tolerance, key: Key, baseline: float) -> float:
    """Return how much worse ``key`` may become, in its unit.

    Args:
        tolerance: An amount, or amounts by pattern: the first pattern that names ``key`` counts, and if there is none,
            the tolerance is 0.
        key: The metric.
        baseline: The baseline's value, of which a percentage is taken.

    Raises:
        UsageError: An amount is neither a number of at least 0 nor a percentage of at least 0.
    """
    if isinstance(tolerance, Mapping):
        tolerance = next((amount for pattern, amount in tolerance.items() if matches(pattern, key)), 0.0)
    share = re.fullmatch(r"(.+)%", tolerance.strip()) if isinstance(tolerance, str) else None
    try:
        size = float(share[1]) / 100 * abs(baseline) if share else float(tolerance)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf or (isinstance(tolerance, str) and not share):
        raise UsageError(
            f"A tolerance is a number such as 0.01, or a share of the baseline such as '2%', not {tolerance!r}."
        )
    return size


def compare(baseline: Baseline, now: Sequence[Entry], tolerance: Tolerance) -> list[Row]:
    """Return a row for every metric of either side, in the order of keys."""
    before, after = _by_key(baseline.entries), _by_key(now)
    rows = [_row(key, before.get(key), after.get(key), tolerance) for key in sorted({*before, *after})]
    return [_graded(row, after.get(row.key) or before[row.key]) for row in rows]


def written(now: Sequence[Entry]) -> list[Row]:
    """Return the rows of metrics that were written into the baseline."""
    return [
        _graded(Row(key, direction(key, _version(number)), None, number[1], Verdict.WRITTEN), number)
        for key, number in sorted(_by_key(now).items())
    ]


def unusable(number: Scored) -> str:
    """Say why ``number`` cannot be compared; empty when it can."""
    if number.value is None:
        return f"is not scored ({number.not_scored})"
    if number.num is None or number.den is None or number.unit in OWN_UNITS:
        stated = number.stderr is not None or (number.ci_low is not None and number.ci_high is not None)
        return "" if stated else "has no interval to judge a change by"
    decides = np.stack([number.num[number.den != 0], number.den[number.den != 0]])
    return "" if np.isfinite(decides).all() else "has contributions that are not finite"


Number = tuple[Entry, Scored]  # one number, and the entry that it is from


def _by_key(entries: Iterable[Entry]) -> dict[Key, Number]:
    return {key: (entry, scored) for entry in entries for key, scored in entry.scores().items()}


def _version(number: Number) -> int:
    return number[0].record.identity.task_version


def _graded(row: Row, number: Number) -> Row:
    return replace(row, grade=letter_of(row.key[0], _version(number), row.key[1]))


def _row(key: Key, old: Number | None, new: Number | None, tolerance: Tolerance) -> Row:
    version = _version(next(number for number in (new, old) if number))
    higher = direction(key, version)
    start = key, higher, old and old[1], new and new[1]
    if old is None:
        return Row(*start, Verdict.NOT_COMPARABLE, reason=f"the baseline lacks it; add it with {NEW_ONLY}")
    if new is None:
        reason = f"it is in the baseline, but it is not measured and checked now; if this is intended, use {UPDATE}"
        return Row(*start, Verdict.NOT_COMPARABLE, reason=reason)
    if reason := _obstacle(old, new):
        return Row(*start, Verdict.NOT_COMPARABLE, reason=reason)
    try:
        change = difference(old[1], new[1])
    except SaebenchError as error:
        return Row(*start, Verdict.NOT_COMPARABLE, reason=f"{str(error).rstrip('.')}; use {UPDATE}")
    if math.isnan(change.ci_low):
        reason = f"the difference has no interval ({change.n} units); use a larger suite and {UPDATE}"
        return Row(*start, Verdict.NOT_COMPARABLE, change, reason=reason)
    if higher is None:
        return Row(*start, Verdict.NO_DIRECTION, change)
    allowed = tolerance_of(tolerance, key, old[1].value or 0.0)
    return Row(*start, _verdict(change, allowed, higher), change, allowed)


def _obstacle(old: Number, new: Number) -> str:
    """Say why two numbers of one metric cannot be compared, and what to do about it; empty when they can."""
    if problem := unusable(new[1]):
        return f"now it {problem}; fix the SAE, or leave the metric out of metrics= and use {UPDATE}"
    if problem := unusable(old[1]):
        return f"in the baseline it {problem}; use {UPDATE}"
    reasons = [sentence.rstrip(".") for sentence in mismatches(old[0].record, new[0].record)]
    hooks = [number[0].record.sae.hook for number in (old, new)]
    if hooks[0] != hooks[1]:
        reasons.append(f"The hooks of the SAEs differ: {hooks[0]} and {hooks[1]}")
    return f"{'; '.join(reasons)} (baseline first); if this is intended, use {UPDATE}" if reasons else ""


def _verdict(change: Difference, tolerance: float, higher: bool) -> Verdict:
    if abs(change.value) <= tolerance:
        return Verdict.WITHIN
    if change.ci_low <= 0 <= change.ci_high:
        return Verdict.UNDECIDED
    return Verdict.BETTER if (change.value > 0) == higher else Verdict.WORSE
