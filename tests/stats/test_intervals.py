"""Intervals: against scipy's, against brute force, by coverage, and on inputs that have none."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from saebench.stats.intervals import bootstrap_ratio, jackknife, mean_estimate, ratio, resampling_weights, weighted_mean

Array = NDArray[np.float64]


def units(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Numerators and denominators of sequences of unequal size, correlated and skewed. The ratio's truth is 2."""
    den = rng.lognormal(0, 0.5, n)
    return den * (1 + rng.lognormal(-0.32, 0.8, n)), den


def test_weights_are_resamples():
    weights = resampling_weights(30, 500, np.random.default_rng(0))
    assert weights.shape == (500, 30)
    assert (weights >= 0).all()
    assert (weights == weights.round()).all()
    assert (weights.sum(1) == 30).all()
    # Each unit is drawn once on average, with variance 1 - 1/n.
    assert weights.mean(0) == pytest.approx(np.ones(30), abs=0.2)
    assert weights.var() == pytest.approx(1 - 1 / 30, rel=0.05)


def test_value_is_the_ratio_of_sums_not_the_mean_of_ratios():
    num, den = np.array([1.0, 9.0]), np.array([1.0, 3.0])
    assert ratio(num, den) == 2.5
    assert bootstrap_ratio(num, den, resampling_weights(2, 50, np.random.default_rng(0))).value == 2.5


@pytest.mark.parametrize("seed", range(4))
def test_equals_scipys_bca(seed: int):
    """scipy resamples by itself: the two agree to the Monte-Carlo error of the end points (a 30th of the width)."""
    num, den = units(60, np.random.default_rng(seed))
    ours = bootstrap_ratio(num, den, resampling_weights(60, 20_000, np.random.default_rng(seed)))
    theirs = scipy.stats.bootstrap(
        (num, den),
        lambda a, b, axis=-1: a.sum(axis) / b.sum(axis),
        paired=True,
        method="BCa",
        n_resamples=20_000,
        rng=np.random.default_rng(seed + 100),
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.ci_low == pytest.approx(theirs.confidence_interval.low, abs=width / 30)
    assert ours.ci_high == pytest.approx(theirs.confidence_interval.high, abs=width / 30)
    assert ours.stderr == pytest.approx(theirs.standard_error, rel=0.03)
    assert (ours.n, ours.method) == (60, "bca-bootstrap")


def test_equals_scipys_bca_on_the_same_resamples():
    """Given scipy's own resamples as weights, the end points agree to rounding."""
    num, den = units(25, np.random.default_rng(3))
    rng = np.random.default_rng(9)
    resamples = rng.integers(0, 25, (999, 25))
    weights = np.stack([np.bincount(row, minlength=25) for row in resamples]).astype(float)
    values = num[resamples].sum(1) / den[resamples].sum(1)
    theirs = scipy.stats.bootstrap(
        (num, den),
        lambda a, b, axis=-1: a.sum(axis) / b.sum(axis),
        paired=True,
        method="BCa",
        n_resamples=0,
        bootstrap_result=type("Result", (), {"bootstrap_distribution": values})(),
    )
    ours = bootstrap_ratio(num, den, weights)
    assert ours.ci_low == pytest.approx(theirs.confidence_interval.low, rel=1e-12)
    assert ours.ci_high == pytest.approx(theirs.confidence_interval.high, rel=1e-12)
    assert ours.stderr == pytest.approx(theirs.standard_error, rel=1e-12)


def coverage(draw: Callable[[np.random.Generator], tuple[Array, Array]], truth: float, n: int = 100) -> float:
    """Share of 2,000 simulated samples whose interval holds the truth (standard error 0.5 %)."""
    rng = np.random.default_rng(0)
    held = 0
    for repetition in range(2000):
        if repetition % 50 == 0:
            weights = resampling_weights(n, 1000, rng)
        num, den = draw(rng)
        estimate = bootstrap_ratio(num, den, weights)
        held += estimate.ci_low <= truth <= estimate.ci_high
    return held / 2000


def lognormal_ratio(rng: np.random.Generator) -> tuple[Array, Array]:
    """A loss per token that varies by 30 % between sequences, over token counts that vary too.

    More skew costs coverage at 100 units, as with every bootstrap: at 50 % it is 93.5 % (8,000 repetitions).
    """
    den = rng.lognormal(0, 0.5, 100)
    return den * rng.lognormal(0, 0.3, 100), den


def recovered_share(rng: np.random.Generator) -> tuple[Array, Array]:
    """CE recovered: differences of losses; numerator and denominator share the sequence's difficulty."""
    difficulty = rng.gamma(4, 1.0, 100)
    den = 2 * difficulty + rng.normal(0, 0.5, 100)
    return 0.9 * den + rng.normal(0, 0.6, 100) * difficulty**0.5, den


def share_of_a_mean(rng: np.random.Generator) -> tuple[Array, Array]:
    """A mean over 60 tokens of each sequence, whose level differs by sequence."""
    level = rng.normal(1.0, 0.3, 100)
    return rng.normal(60 * level, 60**0.5), np.full(100, 60.0)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [(lognormal_ratio, float(np.exp(0.045))), (recovered_share, 0.9), (share_of_a_mean, 1.0)],
    ids=["lognormal", "recovered", "mean"],
)
def test_the_95_percent_interval_covers_93_to_97_percent(draw: Callable[..., tuple[Array, Array]], truth: float):
    assert 0.93 <= coverage(draw, truth) <= 0.97


def test_jackknife_coverage_of_a_mean():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        values = rng.gamma(2.0, 1.0, 100)
        estimate = jackknife(float(values.mean()), (values.sum() - values) / 99)
        held += estimate.ci_low <= 2.0 <= estimate.ci_high
    assert 0.93 <= held / 2000 <= 0.97


def test_shared_weights_pair_two_saes():
    """What differs by a constant in every sequence differs by that constant in every replicate: no error of its own."""
    rng = np.random.default_rng(0)
    num, den = units(80, rng)
    weights = resampling_weights(80, 2000, rng)
    first, second = bootstrap_ratio(num, den, weights), bootstrap_ratio(num + 0.01 * den, den, weights)
    for a, b in ((first.ci_low, second.ci_low), (first.ci_high, second.ci_high), (first.value, second.value)):
        assert b - a == pytest.approx(0.01, rel=1e-9)
    paired = bootstrap_ratio(0.01 * den, den, weights)
    assert (paired.ci_low, paired.ci_high) == pytest.approx((0.01, 0.01), rel=1e-12)
    assert first.stderr > 0.02


def test_same_inputs_same_interval_and_order_of_units_only_through_the_weights():
    num, den = units(40, np.random.default_rng(0))
    weights = resampling_weights(40, 300, np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(40)
    assert bootstrap_ratio(num, den, weights) == bootstrap_ratio(num, den, weights)
    ours, moved = bootstrap_ratio(num, den, weights), bootstrap_ratio(num[order], den[order], weights[:, order])
    assert moved.ci_low == pytest.approx(ours.ci_low, rel=1e-12)


# ---------------------------------------------------------------- inputs without an interval


def no_interval(num: list[float], den: list[float], replicates: int = 200) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = bootstrap_ratio(
            np.array(num), np.array(den), resampling_weights(max(1, len(num)), replicates, np.random.default_rng(0))
        )
    assert np.isnan([estimate.ci_low, estimate.ci_high, estimate.stderr]).all()
    return estimate.value


def test_one_unit_has_a_value_only():
    assert no_interval([3.0], [2.0]) == 1.5


@pytest.mark.parametrize("num", [[1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_zero_denominator(num: list[float]):
    assert np.isnan(no_interval(num, [0.0, 0.0]))
    assert np.isnan(no_interval(num, [1.0, -1.0]))


def test_no_units():
    assert np.isnan(no_interval([], []))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_not_hidden(bad: float):
    assert not np.isfinite(no_interval([1.0, bad, 2.0], [1.0, 1.0, 1.0]))


def test_a_replicate_without_denominator():
    """Two units, one of them empty: a quarter of the resamples holds nothing."""
    assert no_interval([1.0, 0.0], [1.0, 0.0]) == 1.0


def test_a_denominator_that_resampling_turns_negative():
    """A loss range indistinguishable from zero: the ratio runs through infinity and has no finite interval."""
    rng = np.random.default_rng(0)
    den = rng.normal(0.05, 1.0, 100)
    assert den.sum() != 0
    assert np.isfinite(no_interval(list(rng.normal(0.05, 1.0, 100)), list(den)))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e-100, 1e100])
def test_all_equal_is_a_point(value: float):
    den = np.ones(12)
    estimate = bootstrap_ratio(value * den, den, resampling_weights(12, 200, np.random.default_rng(0)))
    assert [estimate.value, estimate.ci_low, estimate.ci_high] == pytest.approx([value] * 3, rel=1e-12)
    assert estimate.stderr == pytest.approx(0.0, abs=1e-12 * abs(value))


def test_negative_denominators_are_as_good_as_positive_ones():
    num, den = units(40, np.random.default_rng(0))
    weights = resampling_weights(40, 300, np.random.default_rng(1))
    ours, other = bootstrap_ratio(num, den, weights), bootstrap_ratio(-num, -den, weights)
    assert other == ours


counts = st.integers(2, 12)


@given(data=st.data(), n=counts, seed=st.integers(0, 5))
def test_wild_inputs_never_raise_nor_cross(data: st.DataObject, n: int, seed: int):
    """Whatever comes in: an interval within the replicates and the right way round, or none."""
    wild = st.floats(-(2.0**40), 2.0**40, width=32)
    num = data.draw(hnp.arrays(np.float64, n, elements=wild))
    den = data.draw(hnp.arrays(np.float64, n, elements=wild))
    weights = resampling_weights(n, 60, np.random.default_rng(seed))
    estimate = bootstrap_ratio(num, den, weights)
    if np.isnan(estimate.ci_low):
        assert np.isnan(estimate.ci_high)
        assert np.isnan(estimate.stderr)
        return
    replicates = weights @ num / (weights @ den)
    assert replicates.min() <= estimate.ci_low <= estimate.ci_high <= replicates.max()
    assert estimate.stderr >= 0


@given(n=st.integers(3, 60), outlier=st.floats(1, 1e9), seed=st.integers(0, 3))
def test_one_unit_far_from_the_others(n: int, outlier: float, seed: int):
    num = np.r_[np.linspace(0, 1, n - 1), outlier]
    estimate = bootstrap_ratio(num, np.ones(n), resampling_weights(n, 400, np.random.default_rng(seed)))
    assert estimate.ci_low <= estimate.value <= estimate.ci_high


# ---------------------------------------------------------------- the normal intervals


def test_mean_against_scipy():
    values = np.random.default_rng(0).gamma(2, 1, 50)
    estimate = mean_estimate(values)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.stderr == pytest.approx(scipy.stats.sem(values))
    low, high = scipy.stats.norm.interval(0.95, values.mean(), scipy.stats.sem(values))
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((low, high))


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).gamma(2, 1, 50)
    estimate = jackknife(float(values.mean()), (values.sum() - values) / 49)
    assert estimate.stderr == pytest.approx(scipy.stats.sem(values))


@pytest.mark.parametrize("values", [[], [1.5]])
def test_too_few_values(values: list[float]):
    for estimate in (mean_estimate(np.array(values)), jackknife(values[0] if values else np.nan, np.array(values))):
        assert estimate.value == (1.5 if values else pytest.approx(np.nan, nan_ok=True))
        assert estimate.n == len(values)
        assert np.isnan([estimate.stderr, estimate.ci_low, estimate.ci_high]).all()


@given(hnp.arrays(np.float64, st.integers(2, 8), elements=st.floats(-10, 10)), st.floats(0.1, 10))
def test_equal_weights_give_the_plain_mean(values: Array, weight: float):
    plain, weighted = mean_estimate(values), weighted_mean(values, np.full(len(values), weight))
    for field in ("value", "stderr", "ci_low", "ci_high"):
        assert getattr(weighted, field) == pytest.approx(getattr(plain, field), abs=1e-9)


def test_a_weighted_mean_has_the_error_that_resampling_shows():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=300), rng.lognormal(size=300)
    draws = rng.integers(300, size=(4000, 300))
    replicates = (weights * values)[draws].sum(1) / weights[draws].sum(1)
    estimate = weighted_mean(values, weights)
    assert estimate.value == pytest.approx(np.average(values, weights=weights))
    assert estimate.stderr == pytest.approx(replicates.std(), rel=0.1)


def test_a_weighted_mean_without_weight_is_missing():
    assert np.isnan(weighted_mean(np.ones(3), np.zeros(3)).value)
    assert np.isnan(weighted_mean(np.ones(1), np.ones(1)).stderr)
