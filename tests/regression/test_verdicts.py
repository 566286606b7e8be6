"""Names, tolerances and verdicts on their own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from saebench.errors import UsageError
from saebench.regression.baseline import Baseline, Entry, entry
from saebench.regression.verdicts import Row, Tolerance, Verdict, compare, matches, named, tolerance_of
from saebench.results.paired import Key
from saebench.results.record import Measurement
from tests.regression.conftest import VERSION, made_up
from tests.results.conftest import make_identity, make_record

ROOT = Path("/root")
WHOLE, PART = ("core", "fvu", ""), ("core", "fvu", "news/a")
KEY = ("core", "fvu", "")


@pytest.mark.parametrize(
    ("pattern", "whole", "part"),
    [
        ("fvu", True, False),
        ("core/fvu", True, False),
        ("core/fvu/news/a", False, True),
        ("core/fvu/*", True, True),
        ("*", True, False),
        ("*/*", True, False),
        ("core/mse", False, False),
        ("dark_matter/fvu", False, False),
    ],
)
def test_patterns(pattern: str, whole: bool, part: bool):
    assert (matches(pattern, WHOLE), matches(pattern, PART)) == (whole, part)


def test_patterns_that_name_nothing_are_mistakes():
    assert named(["fvu", "core/*"], [WHOLE, PART], "metrics") == {WHOLE}
    with pytest.raises(UsageError, match=r"metrics: no measured metric is called 'fuv'. Did you mean 'fvu'\?"):
        named(["fuv"], [WHOLE], "metrics")


@pytest.mark.parametrize(
    ("tolerance", "baseline", "expected"),
    [
        (0.01, -5.0, 0.01),
        (0, 3.0, 0.0),
        ("10%", -5.0, 0.5),
        (" 2.5 %", 4.0, 0.1),
        ({"mse": 1.0, "core/f*": "1%", "*": 9.0}, 2.0, 0.02),
        ({"mse": 1.0}, 2.0, 0.0),
    ],
)
def test_tolerances(tolerance: Tolerance, baseline: float, expected: float):
    assert tolerance_of(tolerance, KEY, baseline) == pytest.approx(expected)


@pytest.mark.parametrize("wrong", ["2", "%", "x%", "-1%", -0.1, math.nan, math.inf, {"fvu": "2"}])
def test_impossible_tolerances(wrong: Tolerance):
    with pytest.raises(UsageError, match="A tolerance is a number"):
        tolerance_of(wrong, KEY, 1.0)


def share(noise: float = 0.0, **levels: float | None) -> Entry:
    record, arrays = made_up(noise, **levels)
    return entry(record, arrays, {("core", metric, "") for metric in ("fvu", "ce_recovered_mean", "l0")}, ROOT)


def verdicts(now: Entry, tolerance: Tolerance = 0.01) -> dict[str, Verdict]:
    rows = compare(Baseline(entries=[share()]), [now], tolerance)
    return {row.key[1]: row.verdict for row in rows}


def test_verdicts_follow_the_direction():
    assert verdicts(share(fvu=0.3, ce_recovered_mean=0.9, l0=64.0)) == {
        "fvu": Verdict.WORSE,
        "ce_recovered_mean": Verdict.BETTER,
        "l0": Verdict.NO_DIRECTION,
    }
    assert verdicts(share(fvu=0.1, ce_recovered_mean=0.7))["fvu"] is Verdict.BETTER
    assert verdicts(share(fvu=0.1, ce_recovered_mean=0.7))["ce_recovered_mean"] is Verdict.WORSE


def test_tolerance_and_interval_must_both_be_passed():
    assert verdicts(share(fvu=0.205))["fvu"] is Verdict.WITHIN  # sure, and small
    assert verdicts(share(noise=0.5, fvu=0.25))["fvu"] is Verdict.UNDECIDED  # large, and unsure
    assert verdicts(share(fvu=0.205), tolerance=0)["fvu"] is Verdict.WORSE
    assert set(verdicts(share(), tolerance=0).values()) == {Verdict.WITHIN, Verdict.NO_DIRECTION}


def test_a_metric_of_any_task_and_subset_is_a_row_of_its_own():
    other = make_record(make_identity(task="dark_matter"), measurements=[number("fvu", "x"), number("fvu")])
    keys: set[Key] = {("dark_matter", "fvu", ""), ("dark_matter", "fvu", "x")}
    rows = compare(Baseline(entries=[share()]), [share(), entry(other, {}, keys, ROOT)], 0.0)
    assert [row.key for row in rows if row.verdict is Verdict.NOT_COMPARABLE] == sorted(keys)


def number(metric: str, subset: str = "", **more: float | None) -> Measurement:
    spread = {"value": 1.0, "stderr": 0.1, "ci_low": 0.8, "ci_high": 1.2} | more
    return Measurement(metric=metric, subset=subset, n=9, unit="dataset", **spread)  # type: ignore[arg-type]


def judged(before: Measurement, now: Measurement) -> Row:
    sides = [
        entry(
            make_record(make_identity(task_version=VERSION), measurements=[one]), {}, {("core", one.metric, "")}, ROOT
        )
        for one in (before, now)
    ]
    [row] = compare(Baseline(entries=sides[:1]), sides[1:], 0.0)
    return row


def test_numbers_without_contributions_are_compared_unpaired():
    row = judged(number("fvu"), number("fvu", value=1.2))
    assert row.difference is not None
    assert row.difference.method == "unpaired"
    assert row.verdict is Verdict.UNDECIDED
    assert judged(number("fvu"), number("fvu", value=1.5)).verdict is Verdict.WORSE


def test_numbers_without_an_interval_cannot_be_judged():
    bare = number("fvu", stderr=None, ci_low=None, ci_high=None)
    assert judged(number("fvu"), bare).reason.startswith("now it has no interval")
    assert judged(bare, number("fvu")).reason.startswith("in the baseline it has no interval")


def test_other_units_are_not_comparable():
    row = judged(number("fvu"), number("fvu").model_copy(update={"unit": "sequence"}))
    assert row.verdict is Verdict.NOT_COMPARABLE
    assert row.reason == "The units differ: dataset and sequence; use --saebench-update"
