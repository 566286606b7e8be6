"""Checks of one record against itself, its arrays and the card of its task.

Every check yields phrases that say what is wrong; the name of the file comes before them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from saebench.cards.registry import registry
from saebench.errors import UsageError, did_you_mean
from saebench.results.array_file import REMEDY
from saebench.results.record import Arrays, Measurement, Record, Status
from saebench.results.record_arrays import checksum, contributions

# The value may have been summed in another order, which changes the last digits. A correct value differs by no more.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9
_ROUNDING = 1e-6  # a cosine in float32 may come out as 1.00000003
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CLOCK_SKEW = timedelta(days=1)


def identity_problems(record: Record) -> Iterator[str]:
    """Yield identity hashes of a record with numbers that are not hashes."""
    who = record.identity
    hashes = {"sae_fingerprint": who.sae_fingerprint, "model_fingerprint": who.model_fingerprint}
    hashes |= {f"data[{reference}]": content for reference, content in who.data.items()}
    for name, value in hashes.items():
        if record.status is Status.OK and not _SHA256.fullmatch(value):
            yield f"identity.{name} is {value!r}, not a SHA-256 hash of 64 hex digits"


def provenance_problems(record: Record, now: datetime | None = None) -> Iterator[str]:
    """Yield a time that is in the future."""
    created = record.provenance.created
    if created > (now or datetime.now(UTC)) + _CLOCK_SKEW:
        yield f"provenance.created is in the future ({created.isoformat()})"


def card_problems(record: Record) -> Iterator[str]:
    """Yield what contradicts the card of the record's task: its version, parameters, metrics or bounds.

    Raises UsageError for a task that is not installed.
    """
    who = record.identity
    card = registry().card(who.task)
    if who.task_version != card.version:
        yield f"is of {card.name} v{who.task_version}, but the current version is {card.version}; run it again"
        return
    try:
        card.resolve(record.preset, who.parameters)
    except UsageError as error:
        yield str(error)
    if missing := sorted(set(card.parameters) - set(who.parameters)):
        yield f"identity.parameters lacks {', '.join(missing)}"
    known = {spec.id: spec for spec in card.metrics}
    for unknown in dict.fromkeys(number.metric for number in record.measurements if number.metric not in known):
        yield f"task {card.name!r} has no metric {unknown!r}.{did_you_mean(unknown, known)}".rstrip(".")
    for number in record.measurements:
        if number.metric in known and number.value is not None:
            low, high = known[number.metric].bounds
            below = low is not None and number.value < low - _ROUNDING * max(1, abs(low))
            if below or (high is not None and number.value > high + _ROUNDING * max(1, abs(high))):
                yield f"{_name(number)} is {number.value!r}, outside the card's bounds [{_open(low)}, {_open(high)}]"


def number_problems(record: Record) -> Iterator[str]:
    """Yield numbers that contradict each other or the record's status."""
    if record.status is Status.OK and not record.measurements:
        yield "its status is ok, but it holds no numbers"
    if record.status is not Status.OK and record.measurements:
        yield f"its status is {record.status.value}, but it holds numbers"
    if record.status is not Status.OK and not record.error:
        yield f"its status is {record.status.value}, but it does not say why"
    for number in record.measurements:
        for problem in _contradictions(number):
            yield f"{_name(number)}: {problem}"


def array_problems(record: Record, arrays: Arrays) -> Iterator[str]:
    """Yield contributions that are missing or damaged, or that do not give the number of the record."""
    for key, array in arrays.items():
        if array.dtype.kind not in "biufUS":
            yield f"array {key!r} holds {array.dtype}; only numbers and text are allowed"
    problems = [
        f"{_name(number)}: {problem}"
        for number in record.measurements
        if number.contributions is not None
        for problem in _contribution_problems(number, arrays)
    ]
    if not problems and record.arrays_sha256 not in (None, checksum(arrays)):
        problems = [f"its arrays are not those that it was written with: the checksums differ; {REMEDY}"]
    yield from problems


def _contradictions(number: Measurement) -> Iterator[str]:
    if number.value is None and not number.not_scored:
        yield "has no value and no reason (not_scored)"
    if number.value is not None and number.not_scored:
        yield f"has a value and a reason why it has none ({number.not_scored!r})"
    if (number.ci_low is None) != (number.ci_high is None):
        yield "only one end of its interval is given"
    if number.value is None or number.ci_low is None or number.ci_high is None:
        return
    slack = _slack(max(abs(number.ci_low), abs(number.ci_high)))
    if not number.ci_low - slack <= number.value <= number.ci_high + slack:
        yield f"the value {number.value!r} is outside its interval [{number.ci_low!r}, {number.ci_high!r}]"


def _contribution_problems(number: Measurement, arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    key = number.contributions
    if not {f"{key}.num", f"{key}.den"} <= arrays.keys():
        yield f"the arrays '{key}.num' and '{key}.den' are not both present; {REMEDY}"
        return
    if (pair := contributions(str(key), arrays)) is None:
        yield f"the arrays '{key}.num' and '{key}.den' are not two lists of numbers of one length; {REMEDY}"
        return
    num, den = pair
    if number.n is not None and len(num) > number.n:
        yield f"there are {len(num)} contributions, but n is {number.n}"
    if number.value is None:
        return
    num, den = num.astype(np.float64), den.astype(np.float64)
    if not (np.isfinite(num).all() and np.isfinite(den).all()):
        yield "its contributions hold NaN or infinity"
        return
    with np.errstate(all="ignore"):
        # The sum of absolute terms measures how much cancels, and so how large the rounding errors may be.
        value, size = float(num.sum() / den.sum()), float(np.abs(num).sum() / abs(den.sum()))
    if not math.isfinite(size):
        yield "its contributions give no finite number"
    elif abs(value - number.value) > _RELATIVE * abs(number.value) + _ABSOLUTE * (1 + size):
        yield f"its contributions give {value!r}, but the record says {number.value!r}"


def _slack(size: float) -> float:
    return _ABSOLUTE * (1 + abs(size))


def _name(number: Measurement) -> str:
    return f"{number.metric} ({number.subset})" if number.subset else number.metric


def _open(bound: float | None) -> str:
    return "open" if bound is None else f"{bound:g}"
