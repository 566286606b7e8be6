"""Comparisons of made-up records: pairing, refusals, verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from saebench.results.compare import LEVEL, Comparison, Measured, Verdict, compare, holm_levels, verdict
from saebench.results.paired import holm
from saebench.results.record import Status
from tests.results.conftest import VERSION, make_identity, make_number, make_record


def measured(units: dict[str, Sequence[float]], sae: str = "zoo:a", *more: Any, **changes: Any) -> Measured:
    """A record whose ``metric`` or ``metric/subset`` are means of ``units``; ``more`` are further measurements."""
    numbers = [
        make_number(
            key.partition("/")[0],
            float(np.mean(values)),
            subset=key.partition("/")[2],
            n=len(values),
            contributions=key,
        )
        for key, values in units.items()
    ]
    parts = {f"{key}.num": np.array(values) for key, values in units.items()}
    parts |= {f"{key}.den": np.ones(len(values)) for key, values in units.items()}
    identity = {key: value for key, value in changes.items() if key not in ("preset", "status", "error", "created")}
    rest = {key: value for key, value in changes.items() if key not in identity}
    return make_record(make_identity(sae=sae, **identity), measurements=[*numbers, *more], **rest), parts


def reasons(found: Comparison) -> list[tuple[str, str]]:
    return [(each.metric or each.task, each.reason) for each in found.excluded]


HARD = np.linspace(0.1, 0.9, 30)
WIGGLE = 0.01 * np.tile([1.0, -1.0], 15)


def test_verdicts_speak_of_the_second():
    a = measured({"fvu": HARD, "ce_recovered_mean": HARD, "l0": HARD, "other": HARD})
    b = measured(
        {key: HARD + 0.02 + WIGGLE for key in ("fvu", "ce_recovered_mean", "l0", "other")}, "zoo:b", sae_fingerprint="b"
    )
    there, back = compare([a], [b]), compare([b], [a])
    assert [line.verdict for line in there.lines()] == [Verdict.WORSE, Verdict.BETTER, None, None]
    assert [line.verdict for line in back.lines()] == [Verdict.BETTER, Verdict.WORSE, None, None]
    assert all(line.difference.value == pytest.approx(0.02) for line in there.lines())


def test_identical_records_differ_by_exactly_nothing():
    a = measured({"fvu": HARD})
    (line,) = compare([a], [a]).lines()
    assert (line.difference.value, line.difference.stderr, line.p_holm, line.reliable) == (0.0, 0.0, 1.0, 0.0)
    assert line.verdict is Verdict.UNDECIDED


def test_more_metrics_need_clearer_differences():
    shift = 0.0038 + WIGGLE  # p = 0.047 alone
    a = measured({"fvu": HARD, "ce_recovered_mean": HARD})
    b = measured({"fvu": HARD - shift, "ce_recovered_mean": HARD + WIGGLE}, "zoo:b")
    both, alone = compare([a], [b]), compare([a], [b], wanted={"core": ["fvu"]})
    assert [line.verdict for line in alone.lines()] == [Verdict.BETTER]
    assert [line.verdict for line in both.lines()] == [Verdict.UNDECIDED] * 2
    assert both.lines()[0].reliable == alone.lines()[0].reliable < both.lines()[0].reliable_holm


def test_subsets_are_left_out_unless_asked_for_or_all_there_is():
    units = {"fvu": HARD, "fvu/news": HARD, "kl/news": HARD}
    a, b = measured(units), measured(units, "zoo:b")
    found = compare([a], [b])
    assert [(line.metric, line.subset) for line in found.lines()] == [("fvu", ""), ("kl", "news")]
    assert found.more == 1
    assert len(compare([a], [b], subsets=True).lines()) == 3


def test_wanted_decides_which_and_in_which_order():
    a, b = (measured({"fvu": HARD, "l0": HARD, "kl": HARD}, sae) for sae in ("zoo:a", "zoo:b"))
    found = compare([a], [b], wanted={"core": ["kl", "fvu", "unknown"]})
    assert [line.metric for line in found.lines()] == ["kl", "fvu"]
    assert found.more == 1
    assert found.excluded == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task_version": VERSION + 1}, f"The versions of the task core differ: {VERSION} and {VERSION + 1}."),
        ({"parameters": {"sequences": 64}}, "The parameter scale differs: 0.1 and not set. The parameter sequences "),
        ({"model_fingerprint": "other"}, "The language models differ"),
        ({"seed": 1}, "The seeds differ: 0 and 1."),
        ({"task": "dark_matter"}, "only A has a record of it"),
    ],
)
def test_what_cannot_be_compared_is_listed(change: dict[str, Any], reason: str):
    found = compare([measured({"fvu": HARD})], [measured({"fvu": HARD}, "zoo:b", **change)])
    assert found.pairs == []
    assert found.excluded[0].reason.startswith(reason)
    assert {each.task for each in found.excluded} == {"core", change.get("task", "core")}


def test_other_units_are_not_compared():
    a, b = (
        (record.model_copy(update={"units": {"sequence": mark * 64}}), arrays)
        for mark in "ab"
        for record, arrays in [measured({"fvu": HARD}, f"zoo:{mark}")]
    )
    assert reasons(compare([a], [b])) == [
        (
            "core",
            "They were measured on different sequences, although data, settings and seed are the same. "
            "Run both again with --overwrite always.",
        )
    ]
    assert len(compare([a], [measured({"fvu": HARD}, "zoo:b")]).lines()) == 1  # a record from before


def test_the_reason_is_given_once_and_in_the_order_of_the_sides():
    found = compare([measured({"fvu": HARD}, seed=1)], [measured({"fvu": HARD}, "zoo:b", seed=0)])
    assert reasons(found) == [("core", "The seeds differ: 1 and 0.")]


def test_a_failed_record_is_listed():
    bad = make_record(make_identity(sae="zoo:b"), status=Status.FAILED, error="weights hold NaN"), {}
    found = compare([measured({"fvu": HARD})], [bad])
    assert reasons(found) == [("core", "B: failed: weights hold NaN")]


def test_a_failed_record_that_knows_nothing_is_listed():
    bad = make_record(make_identity(sae="zoo:b", data={}), status=Status.FAILED, error="no such folder"), {}
    found = compare([measured({"fvu": HARD})], [bad])
    assert ("core", "B: failed: no such folder") in reasons(found)
    assert found.pairs == []


def test_numbers_of_one_side_are_listed():
    unscored = make_number("kl", None, not_scored="no head")
    a = measured({"fvu": HARD, "kl": HARD, "l0": HARD, "mse": HARD})
    b = measured({"fvu": HARD, "extra": HARD, "mse": HARD[:7]}, "zoo:b", unscored)
    found = compare([a], [b])
    assert [line.metric for line in found.lines()] == ["fvu"]
    assert dict(reasons(found)) == {
        "kl": "not scored for B: no head",
        "l0": "only A has this number",
        "mse": "The numbers of units (sequence) differ: 30 and 7.",
        "extra": "only B has this number",
    }


def test_presets_are_paired_with_their_like():
    small = {"parameters": {"sequences": 4}, "preset": "smoke"}
    lower = np.array([1.0, 1.1, 1.0, 0.9])
    sides = [
        [measured({"fvu": HARD + by}, sae), measured({"fvu": HARD[:4] - by * lower}, sae, **small)]
        for sae, by in (("zoo:a", 0.0), ("zoo:b", 0.1))
    ]
    found = compare(sides[0], list(reversed(sides[1])))
    assert sorted((pair.a.preset, pair.b.preset) for pair in found.pairs) == [("quick", "quick"), ("smoke", "smoke")]
    assert {pair.a.preset: pair.lines[0].verdict for pair in found.pairs} == {"quick": "worse", "smoke": "better"}
    assert found.excluded == []


def test_texts_are_compared_by_content():
    def on(text: str, content: str) -> dict[str, Any]:
        return {"parameters": {"text": text}, "data": {text: content}}

    here = measured({"fvu": HARD}, "zoo:a", **on("jsonl:text.jsonl", "cc" * 32))
    copied = measured({"fvu": HARD + 0.1}, "zoo:b", **on("jsonl:/elsewhere/copy.jsonl", "cc" * 32))
    other = measured({"fvu": HARD + 0.1}, "zoo:b", **on("jsonl:text.jsonl", "dd" * 32))
    assert [line.metric for line in compare([here], [copied]).lines()] == ["fvu"]
    assert compare([here], [other]).pairs == []
    assert [each.reason for each in compare([here], [other]).excluded] == [
        "The contents of the data jsonl:text.jsonl differ."
    ]


def test_of_equal_records_the_newest_counts():
    old = measured({"fvu": HARD}, device_class="cuda", created=datetime(2025, 1, 1, tzinfo=UTC))
    new = measured({"fvu": HARD + 1})
    for side in ([old, new], [new, old]):
        (line,) = compare(side, [measured({"fvu": HARD}, "zoo:b")]).lines()
        assert line.difference.value == pytest.approx(-1.0)


def test_verdict_by_hand():
    assert verdict(0.1, 0.049, True) is Verdict.BETTER
    assert verdict(0.1, 0.049, False) is Verdict.WORSE
    assert verdict(-0.1, 0.049, False) is Verdict.BETTER
    assert verdict(0.1, 0.05, True) is Verdict.UNDECIDED
    assert verdict(0.1, math.nan, True) is Verdict.UNDECIDED
    assert verdict(0.1, 0.0, None) is None


def test_holm_levels_by_hand():
    # Four tests: 0.001 had to be below 0.05 / 4, as none of the others is rejected; with it rejected, they had to be
    # below 0.05 / 3.
    levels = holm_levels([0.02, 0.001, 0.5, math.nan, 0.3])
    assert levels[:3] == pytest.approx([0.05 / 3, 0.05 / 4, 0.05 / 3])
    assert math.isnan(levels[3])
    assert holm_levels([0.04]) == [LEVEL]


def test_holm_levels_say_what_the_corrected_values_say():
    rng = np.random.default_rng(0)
    for _ in range(300):
        p = list(rng.uniform(0, 0.2, size=rng.integers(1, 8)) ** 2)
        assert [x < level for x, level in zip(p, holm_levels(p), strict=True)] == [x < LEVEL for x in holm(p)]


def test_a_verdict_falls_where_the_reliable_difference_is_exceeded():
    rng = np.random.default_rng(1)
    names = ["fvu", "ce_recovered_mean"]
    for _ in range(20):
        a = measured({name: rng.normal(size=12) for name in names})
        b = measured({name: rng.normal(0.8, size=12) for name in names}, "zoo:b")
        for line in compare([a], [b], replicates=200).lines():
            decided = abs(line.difference.value) > line.reliable_holm
            assert decided == (line.verdict is not Verdict.UNDECIDED)
