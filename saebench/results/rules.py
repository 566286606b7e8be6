"""What holds for every record beyond the types of its fields. The store writes no other record and reads no other.

A record comes from anywhere: from a colleague, from a download, from a disk that failed. What is not caught here would
reach sums, dates, file names and tables of all other records.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from saebench.results.record import Measurement, Record
from saebench.safe_text import short

# The comparison of two records needs the fourth power of a standard error, which must be a float, too.
LARGEST = 1e75
LONGEST_NAME = 5_000  # characters: the longest path of a file fits
LONGEST_TEXT = 100_000
_YEARS = range(1970, 2200)  # a clock that was never set begins in 1970
_INTEGERS = range(-(2**63), 2**63)


def json_problem(content: Any) -> str:
    """Say which number or text in a JSON value no record may hold; empty when there is none.

    Integers must have 64 bits, other numbers must be finite, and texts must have at most ``LONGEST_TEXT`` characters.
    """
    for place, value in _values(content):
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            return f"{short(place)} has {len(value):,} characters; a text has at most {LONGEST_TEXT:,}"
        if isinstance(value, int) and value not in _INTEGERS:
            return f"{short(place)} is an integer of more than 64 bits"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{short(place)} is {value}, which no JSON file may hold"
    return ""


def record_problem(record: Record) -> str:
    """Say which value of ``record`` is impossible; empty when there is none."""
    return next(_record_problems(record), "")


def scorable(value: float | None) -> bool:
    """Return whether ``value`` is a number that a record can hold."""
    return value is not None and abs(value) <= LARGEST


def _record_problems(record: Record) -> Iterator[str]:
    who, sae, how = record.identity, record.sae, record.provenance
    for place, name in _names(record):
        if len(name) > LONGEST_NAME:
            yield f"{place} has {len(name):,} characters; a name has at most {LONGEST_NAME:,}"
    if who.task_version < 1:
        yield f"identity.task_version is {who.task_version}"
    counts = {"sae.d_in": sae.d_in, "sae.d_sae": sae.d_sae, "provenance.cpu_count": how.cpu_count}
    counts |= {f"counts.{name}": count for name, count in record.counts.items()}
    for place, count in counts.items():
        if count is not None and count < 0:
            yield f"{short(place)} is {count}"
    if how.created.utcoffset() is None:
        yield "provenance.created has no time zone"
    if how.created.year not in _YEARS:
        yield f"provenance.created is in the year {how.created.year}"
    for place, number in {
        "sae.l0": sae.l0,
        "provenance.wall_seconds": how.wall_seconds,
        "provenance.peak_memory_mb": how.peak_memory_mb,
    }.items():
        if number is not None and not 0 <= number <= LARGEST:
            yield f"{place} is {number}"
    for (metric, subset), times in Counter((m.metric, m.subset) for m in record.measurements).items():
        if times > 1:
            yield f"{_name(metric, subset)} appears {times} times"
    for number_ in record.measurements:
        for problem in _impossible(number_):
            yield f"{_name(number_.metric, number_.subset)}: {problem}"


def _impossible(number: Measurement) -> Iterator[str]:
    for field in ("value", "stderr", "ci_low", "ci_high"):
        value = getattr(number, field)
        if value is not None and not abs(value) <= LARGEST:
            yield f"its {field} is {value}; the largest number that a record can hold is {LARGEST:g}"
    if number.stderr is not None and number.stderr < 0:
        yield f"its stderr is {number.stderr}"
    if number.n is not None and number.n < 0:
        yield f"its n is {number.n}"
    if number.ci_low is not None and number.ci_high is not None and number.ci_low > number.ci_high:
        yield f"its interval begins at {number.ci_low} and ends at {number.ci_high}"


def _names(record: Record) -> Iterator[tuple[str, str]]:
    """Yield what tables show in cells and captions, with its place."""
    who, sae = record.identity, record.sae
    yield "preset", record.preset
    yield from ((f"identity.{field}", getattr(who, field)) for field in ("task", "model", "dtype", "device_class"))
    yield from ((f"sae.{field}", getattr(sae, field)) for field in ("name", "architecture", "hook"))
    for number in record.measurements:
        for field in ("metric", "subset", "unit", "interval", "contributions"):
            yield f"measurements: {field}", getattr(number, field) or ""


def _name(metric: str, subset: str) -> str:
    return short(f"{metric} ({subset})" if subset else metric)


def _values(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield every number, text and key in a JSON value with its place, such as ``identity.seed``."""
    rest: list[tuple[str, Any]] = [("", content)]
    while rest:
        place, value = rest.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                yield f"a key in {place or 'the record'}", key
                rest.append((f"{place}.{key[:100]}" if place else key[:100], item))
        elif isinstance(value, list):
            rest.extend((f"{place}[{number}]", item) for number, item in enumerate(value))
        else:
            yield place, value
