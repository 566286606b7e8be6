from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from saebench.errors import SaebenchError
from saebench.results import paired
from saebench.results.paired import PAIRED, UNPAIRED, Scored, difference, holm, mismatches, scores
from saebench.results.record import Record
from tests.results.conftest import VERSION, make_identity, make_number, make_record

NOISE = 0.03  # of a standard error from 10,000 replicates, four times its own


def of_units(num: Any, den: Any = None, **changes: Any) -> Scored:
    """A number that is the ratio of sums over sequences."""
    num = np.asarray(num, float)
    den = np.ones_like(num) if den is None else np.asarray(den, float)
    value = float(num.sum() / den.sum())
    number = Scored(value, None, None, None, len(num), "sequence", "bca-bootstrap", "", num, den)
    return replace(number, **changes)


def alone(value: float, stderr: float | None, unit: str = "latent", n: int = 100, **changes: Any) -> Scored:
    """A number without contributions."""
    return replace(Scored(value, stderr, None, None, n, unit, "normal", "", None, None), **changes)


def test_by_hand():
    # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t with 2 degrees of freedom.
    found = difference(of_units([1, 2, 3]), of_units([2, 4, 6]))
    assert found.value == 2.0
    assert found.stderr == pytest.approx(1 / math.sqrt(3), rel=NOISE)
    assert found.ci_high - found.value == pytest.approx(4.3027 / math.sqrt(3), rel=NOISE)
    assert found.p == pytest.approx(0.0742, rel=0.06)
    assert (found.n, found.method, found.df) == (3, PAIRED, 2)


def test_means_agree_with_the_paired_t_test():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=50)
    a, b = hard + 0.3 * rng.normal(size=50), hard + 0.1 + 0.3 * rng.normal(size=50)
    found, expected = difference(of_units(a), of_units(b)), stats.ttest_rel(b, a)
    interval = expected.confidence_interval()
    assert found.value == pytest.approx(np.mean(b - a))
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high), abs=NOISE * found.stderr * 2)
    assert found.p == pytest.approx(expected.pvalue, rel=0.1)


def test_ratios_agree_with_the_delta_method():
    rng = np.random.default_rng(1)
    n = 400
    den_a, den_b = rng.uniform(50, 150, n), rng.uniform(50, 150, n)
    num_a = den_a * rng.normal(0.5, 0.1, n)
    num_b = 0.5 * num_a + den_b * rng.normal(0.3, 0.1, n)
    linear = (num_b - num_b.sum() / den_b.sum() * den_b) / den_b.mean() - (
        num_a - num_a.sum() / den_a.sum() * den_a
    ) / den_a.mean()
    found = difference(of_units(num_a, den_a), of_units(num_b, den_b))
    assert found.stderr == pytest.approx(linear.std(ddof=1) / math.sqrt(n), rel=NOISE)


@pytest.mark.parametrize("n", [12, 64])
def test_intervals_cover_what_they_say(n):
    rng = np.random.default_rng(n)
    covered = 0
    trials = 600
    for _ in range(trials):
        hard, den = rng.gamma(2.0, size=n), rng.integers(60, 127, size=n)
        a, b = (den * (hard * slope + rng.normal(scale=0.5, size=n)) for slope in (0.5, 0.7))
        found = difference(of_units(a, den), of_units(b, den), replicates=1000)
        covered += found.ci_low <= 0.4 <= found.ci_high  # (0.7 - 0.5) times the mean of the gamma, 2
    assert 0.92 <= covered / trials <= 0.98


def test_no_difference_is_found_in_five_percent():
    rng = np.random.default_rng(5)
    p = [
        difference(of_units(rng.normal(size=16)), of_units(rng.normal(size=16)), replicates=1000).p for _ in range(600)
    ]
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07


def test_identical_numbers_differ_by_exactly_nothing():
    number = of_units([0.1, 0.7, 0.3], [3.0, 2.0, 7.0])
    found = difference(number, number)
    assert (found.value, found.stderr, found.ci_low, found.ci_high, found.p) == (0.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("n", [6, 16])
def test_what_differs_alike_in_many_units_is_tested_by_their_signs(n):
    found = difference(of_units([32.0] * n), of_units([64.0] * n))
    assert (found.value, found.stderr, found.ci_low, found.ci_high) == (32.0, 0.0, 32.0, 32.0)
    assert found.p == 2.0 ** (1 - n)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_what_differs_alike_in_a_few_units_decides_nothing(n):
    found = difference(of_units([0.5] * n), of_units([0.6] * n))
    assert found.value == pytest.approx(0.1)
    assert np.isnan([found.stderr, found.ci_low, found.ci_high, found.p]).all()


def test_rounding_is_no_difference():
    found = difference(of_units([0.1, 0.2, 0.3]), of_units(np.array([0.1, 0.2, 0.3]) * (1 + 1e-15)))
    assert (found.value, found.p) == (0.0, 1.0)


def test_pairing_removes_what_the_units_share():
    rng = np.random.default_rng(2)
    hard = rng.normal(size=64)
    a, b = (of_units(hard + 0.05 * rng.normal(size=64), stderr=float(hard.std() / 8)) for _ in range(2))
    apart = difference(replace(a, num=None, den=None), replace(b, num=None, den=None))
    assert apart.method == UNPAIRED
    assert difference(a, b).stderr < 0.1 * apart.stderr


def test_units_that_one_side_lacks_are_left_out():
    a = of_units([1.0, 0.0, 3.0, 5.0], [1, 0, 1, 1])  # the second is not scored
    b = of_units([2.0, 9.0, 4.0, 9.0], [1, 1, 1, 1])
    found = difference(a, b)
    assert (found.value, found.n) == (2.0, 3)
    assert found.stderr > 0


def test_units_that_neither_has_change_nothing():
    a, b = of_units([1.0, 0.0, 3.0], [1, 0, 1]), of_units([2.0, 0.0, 7.0], [1, 0, 1])
    assert difference(a, b).value == b.value - a.value == 2.5
    assert difference(a, b).n == 2


def test_the_record_counts_units_where_contributions_are_of_groups():
    a, b = (of_units(values, n=60, unit="example") for values in ([1.0, 2.0, 4.0], [1.0, 3.0, 7.0]))
    assert (difference(a, b).n, difference(a, b).df) == (60, 2)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (of_units([1.0, 2.0]), of_units([1.0, 2.0], value=None, not_scored="no text"), "second is not scored: no text"),
        (of_units([1.0, 2.0], value=None), of_units([1.0, 2.0]), "first is not scored"),
        (of_units([1.0, 2.0]), of_units([1.0, 2.0, 3.0]), "2 and 3"),
        (of_units([1.0, 2.0]), alone(1.0, 0.1), "sequence and latent"),
        (of_units([1.0, 2.0], units="a"), of_units([1.0, 2.0], units="b"), "measured on different sequences; measure"),
        (of_units([1.0, 2.0], units="a"), of_units([1.0, 2.0, 3.0], units="b"), "measured on different sequences"),
        (alone(1.0, 0.1, "prompt", units="a"), alone(1.0, 0.1, "prompt", units="b"), "on different prompts"),
    ],
)
def test_refusals(a, b, message):
    with pytest.raises(SaebenchError, match=message):
        difference(a, b)


def test_unpaired_by_hand():
    found = difference(alone(1.0, 0.3), alone(2.0, 0.4, n=50))
    assert (found.value, found.method, found.n, found.df) == (1.0, UNPAIRED, 50, math.inf)
    assert found.stderr == pytest.approx(0.5)
    assert (found.ci_low, found.ci_high) == pytest.approx((1 - 0.98, 1 + 0.98), abs=1e-4)
    assert found.p == pytest.approx(0.0455, abs=1e-4)


@pytest.mark.parametrize("unit", ["latent", "run", "sae"])
def test_units_of_an_sae_are_never_paired(unit):
    a = of_units([1.0, 2.0, 3.0], unit=unit, stderr=0.1)
    assert difference(a, a).stderr == pytest.approx(0.1 * math.sqrt(2))


def test_intervals_of_few_runs_keep_their_heavy_tails():
    half = 4.3027 * 0.01  # Student's t with 2 degrees of freedom
    few = alone(0.5, 0.01, "run", 3, ci_low=0.5 - half, ci_high=0.5 + half)
    against_constant, against_few = difference(few, alone(0.6, 0.0, "run", 3)), difference(few, few)
    assert (against_constant.stderr, against_constant.df) == pytest.approx((0.01, 2.0), rel=1e-3)
    assert against_constant.p == pytest.approx(0.0099, abs=1e-4)  # not that of ten normal standard errors
    assert (against_few.stderr, against_few.df) == pytest.approx((0.01 * math.sqrt(2), 4.0), rel=1e-3)


@pytest.mark.parametrize("stderr", [0.0, None])
def test_the_interval_counts_where_the_standard_error_says_nothing(stderr):
    share = alone(0.0, stderr, ci_low=0.0, ci_high=0.02)  # Wilson's, of no success
    found = difference(share, alone(0.0, 0.0))
    assert (found.stderr, found.df) == (pytest.approx(0.01 / 1.96, rel=1e-4), math.inf)


def test_without_uncertainty_there_is_a_difference_and_no_test():
    found = difference(alone(1.0, None), alone(2.0, 0.1))
    assert found.value == 1.0
    assert all(math.isnan(x) for x in (found.stderr, found.ci_low, found.ci_high, found.p, found.margin(0.05)))


@pytest.mark.parametrize("den", [[1.0, -1.0, 0.5], [1.0, 0.0, 0.0]])
def test_no_interval_without_a_steady_denominator_or_two_units(den):
    found = difference(of_units([1.0, 2.0, 3.0], den), of_units([2.0, 2.0, 3.0], den))
    assert math.isfinite(found.value)
    assert math.isnan(found.p)


def test_the_margin_is_where_p_reaches_the_level():
    found = difference(of_units([1.0, 2.0, 3.0, 5.0]), of_units([2.0, 2.5, 3.0, 7.0]))
    assert found.margin(0.05) == pytest.approx((found.ci_high - found.ci_low) / 2)
    assert found.margin(found.p) == pytest.approx(found.value)


def test_many_units_are_resampled_in_blocks(monkeypatch):
    rng = np.random.default_rng(3)
    a, b = of_units(rng.normal(size=30)), of_units(rng.normal(size=30))
    whole = difference(a, b, replicates=500)
    monkeypatch.setattr(paired, "_BLOCK", 1000)
    assert difference(a, b, replicates=500) == whole


def test_the_seed_decides():
    a, b = of_units([1.0, 2.0, 4.0]), of_units([1.0, 3.0, 3.0])
    assert difference(a, b, seed=1) == difference(a, b, seed=1)
    assert difference(a, b, seed=1).stderr != difference(a, b, seed=2).stderr


units = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3)), min_size=2, max_size=8)


@settings(deadline=None, max_examples=50)
@given(units)
def test_swapping_turns_the_sign(rows):
    num_a, num_b, den = np.array(rows).T
    a, b = of_units(num_a, den), of_units(num_b, den)
    there, back = difference(a, b, replicates=50), difference(b, a, replicates=50)
    assert there.value == -back.value
    assert (there.ci_low, there.ci_high) == pytest.approx((-back.ci_high, -back.ci_low), nan_ok=True)
    assert there.p == pytest.approx(back.p, nan_ok=True)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_leaves_out_what_was_not_tested():
    first, second, third = holm([0.02, math.nan, 0.03])
    assert (first, third) == (0.04, 0.04)
    assert math.isnan(second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "dark_matter"}, "The tasks differ: core and dark_matter."),
        ({"task_version": VERSION + 1}, f"The versions of the task core differ: {VERSION} and {VERSION + 1}."),
        ({"model_fingerprint": "other"}, "The language models differ: two contents of asset:gemma-3-270m."),
        ({"dtype": "float32"}, "The number types of the language model differ: bfloat16 and float32."),
        ({"seed": 7}, "The seeds differ: 0 and 7."),
        ({"data": {}}, "The data differ: only one of them read asset:sae-probes/97_news_class."),
        (
            {"data": {"asset:sae-probes/97_news_class": "other"}},
            "The contents of the data asset:sae-probes/97_news_class differ.",
        ),
        (
            {"parameters": {"text": "asset:sae-probes/97_news_class", "sequences": 64, "scale": 0.1}},
            "The parameter sequences differs: 128 and 64.",
        ),
    ],
)
def test_what_forbids_a_comparison(change, message):
    assert mismatches(make_record(), make_record(make_identity(**change))) == [message]


@pytest.mark.parametrize(
    "change", [{"sae": "zoo:other", "sae_fingerprint": "dd"}, {"device_class": "cuda"}, {"model": "hf:a/copy"}]
)
def test_what_does_not(change):
    assert mismatches(make_record(), make_record(make_identity(**change))) == []


def test_units_must_be_equal_where_both_records_name_them():
    named = [make_record(units={"sequence": mark * 64}) for mark in "ab"]
    assert mismatches(named[0], named[0]) == []
    assert mismatches(named[0], named[1]) == [
        "They were measured on different sequences, although data, settings and seed are the same."
    ]
    assert mismatches(named[0], make_record()) == mismatches(make_record(), named[0]) == []  # an old record
    # Where something else differs already, the units differ because of it.
    assert mismatches(named[0], make_record(make_identity(seed=7), units={"sequence": "b" * 64})) == [
        "The seeds differ: 0 and 7."
    ]


@pytest.mark.parametrize(("a", "b"), [("", "x"), ("x", ""), ("x", "x")])
def test_numbers_are_paired_unless_both_say_otherwise(a, b):
    assert difference(of_units([1, 2, 4], units=a), of_units([2, 4, 6], units=b)).method == PAIRED


def test_scores_know_the_units_of_their_kind():
    numbers = [make_number("fvu", 0.5), make_number("dead", 0.5, unit="latent")]
    found = scores(make_record(measurements=numbers, units={"sequence": "a" * 64}), {})
    assert [number.units for number in found.values()] == ["a" * 64, ""]


def test_scores_of_a_record():
    record = make_record(
        measurements=[
            make_number("fvu", 0.5, 0.4, 0.6, stderr=0.05, contributions="fvu", interval="bca-bootstrap"),
            make_number("fvu", math.nan, subset="news"),
            make_number("kl_sae", None, not_scored="no head"),
        ]
    )
    arrays = {"fvu.num": np.array([1, 2]), "fvu.den": np.array([3, 3])}
    found = scores(record, arrays)
    assert list(found) == [("core", "fvu", ""), ("core", "fvu", "news"), ("core", "kl_sae", "")]
    whole = found["core", "fvu", ""]
    assert whole.num is not None
    assert whole.num.dtype == np.float64
    assert (whole.value, whole.stderr, whole.ci_low, whole.unit, whole.not_scored) == (0.5, 0.05, 0.4, "sequence", "")
    assert (found["core", "fvu", "news"].value, found["core", "fvu", "news"].not_scored) == (None, "no value")
    assert found["core", "kl_sae", ""].not_scored == "no head"
    assert scores(record, {})["core", "fvu", ""].num is None
    with pytest.raises(SaebenchError, match=r"fvu\.den"):
        scores(record, {"fvu.num": np.array([1, 2])})


def on(text: str, content: str = "cc" * 32, **parameters: Any) -> Record:
    return make_record(make_identity(parameters={"text": text, "sequences": 8} | parameters, data={text: content}))


def test_the_same_content_under_another_path_is_comparable():
    here, there = on("jsonl:text.jsonl"), on("jsonl:/elsewhere/copy.jsonl")
    assert mismatches(here, there) == []
    assert mismatches(here, on("jsonl:/elsewhere/copy.jsonl", sequences=9)) == [
        "The parameter sequences differs: 8 and 9."
    ]


def test_other_content_is_not_comparable_under_any_path():
    here = on("jsonl:text.jsonl")
    assert mismatches(here, on("jsonl:text.jsonl", "dd" * 32)) == ["The contents of the data jsonl:text.jsonl differ."]
    assert mismatches(here, on("jsonl:other.jsonl", "dd" * 32)) == [
        "The parameter text differs: jsonl:text.jsonl and jsonl:other.jsonl."
    ]


def test_paths_that_changed_places_are_compared_by_content():
    one, other = (
        make_record(
            make_identity(
                parameters={"forget": f"jsonl:{x}", "retain": f"jsonl:{y}"},
                data={f"jsonl:{x}": "aa" * 32, f"jsonl:{y}": "bb" * 32},
            )
        )
        for x, y in ("ab", "ba")
    )
    assert mismatches(one, other) == []


# ---------------------------------------------------------------- coverage


@pytest.mark.parametrize("n", [6, 12, 16, 36])
@pytest.mark.parametrize(("gain", "loss"), [(0.03, 0.0), (0.14, 0.05), (0.5, 0.2)])
def test_differences_of_shares_are_covered(n: int, gain: float, loss: float):
    """Most samples show no change at all where few units change; that is not certainty."""
    rng = np.random.default_rng(n)
    held = rejected = 0
    for _ in range(300):
        changes = rng.choice([-1.0, 0.0, 1.0], size=n, p=[loss, 1 - gain - loss, gain])
        before = np.where(changes == 0, rng.integers(0, 2, n), changes < 0).astype(float)
        found = difference(of_units(before), of_units(before + changes))
        assert found.ci_low <= found.value + 1e-12
        assert found.value - 1e-12 <= found.ci_high
        held += found.ci_low <= gain - loss <= found.ci_high
        rejected += found.p < 0.05 and found.ci_low <= 0 <= found.ci_high
    assert held / 300 >= 0.91
    assert rejected == 0, "p is never more certain than the interval"


@pytest.mark.parametrize("n", [6, 12, 16])
def test_differences_of_skewed_units_are_covered(n: int):
    """Units that are skewed alike in both leave a difference that hardly is."""
    rng, held = np.random.default_rng(n), 0
    for _ in range(400):
        hard = rng.lognormal(0, 1, n)
        a, b = (hard * rng.lognormal(-0.02, 0.2, n) for _ in range(2))
        found = difference(of_units(a), of_units(b), replicates=1000)
        held += found.ci_low <= 0 <= found.ci_high
    assert held / 400 >= 0.92


def test_p_of_shares_is_that_of_the_sign_test():
    found = difference(of_units(np.zeros(36)), of_units(np.r_[np.ones(6), np.zeros(30)]))
    assert found.p == pytest.approx(2 * 0.5**6)
    assert difference(of_units(np.zeros(36)), of_units(np.zeros(36))).p == 1.0
    assert difference(of_units(np.zeros(36)), of_units(np.zeros(36))).ci_high > 0.05
