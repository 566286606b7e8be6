"""Intervals: against closed forms, against brute force, by coverage, and on inputs that have none."""

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

from saebench.stats.estimate import SKEWED_COVERAGE, student, student_quantile, with_caveat
from saebench.stats.intervals import (
    MIN_UNITS,
    bootstrap_ratio,
    clipped,
    jackknife,
    mean_estimate,
    ratio,
    resampling_weights,
    weighted_mean,
)
from saebench.stats.proportions import agresti_coull
from saebench.stats.studentised import linearise

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


def test_for_means_the_standard_error_and_its_freedom_are_those_of_a_mean():
    values = np.random.default_rng(0).gamma(2, 1, 50)
    linear = linearise(3 * values, np.full(50, 3.0))
    assert (linear.value, linear.stderr) == pytest.approx((values.mean(), scipy.stats.sem(values)))
    assert linear.df == pytest.approx(49)


def test_the_freedom_of_unequal_denominators_is_that_of_the_matrix():
    """Bell and McCaffrey's formula, with the matrix written out."""
    num, den = units(9, np.random.default_rng(2))
    shares = den / den.sum()
    rows = (shares / np.sqrt(1 - shares))[:, None] * (np.eye(9) - shares)
    matrix = rows @ rows.T
    linear = linearise(num, den)
    assert linear.df == pytest.approx(np.trace(matrix) ** 2 / np.sum(matrix**2))
    assert linear.df < 8
    residuals = num / den - linear.value
    assert linear.stderr == pytest.approx(np.sqrt(np.sum(shares**2 * residuals**2 / (1 - shares))))


@pytest.mark.parametrize("seed", range(3))
def test_the_bootstrap_t_by_brute_force(seed: int):
    """Every sample written out unit by unit, with the standard error that it would have as a sample of its own."""
    n, rng = 9, np.random.default_rng(seed)
    num, den = units(n, rng)
    weights = resampling_weights(n, 400, rng)

    def plain_error(num: Array, den: Array) -> float:
        return float(np.sqrt(n / (n - 1) * np.sum((num - ratio(num, den) * den) ** 2)) / den.sum())

    drawn = [np.repeat(np.arange(n), row.astype(int)) for row in weights]
    t = [(ratio(num[k], den[k]) - ratio(num, den)) / plain_error(num[k], den[k]) for k in drawn]
    low, high = np.quantile(t, [0.025, 0.975])
    linear, found = linearise(num, den), bootstrap_ratio(num, den, weights)
    half = scipy.stats.t.ppf(0.975, linear.df) * linear.stderr
    error = plain_error(num, den)
    assert found.ci_low == pytest.approx(found.value - max(half, high * error), rel=1e-9)
    assert found.ci_high == pytest.approx(found.value + max(half, -low * error), rel=1e-9)
    assert found.method.startswith("bootstrap-t")


def test_no_end_is_farther_than_four_times_students():
    """Where most units are alike, many samples have no spread at all, and their t is infinite."""
    num = np.r_[np.zeros(9), 0.5]
    found = bootstrap_ratio(num, np.ones(10), resampling_weights(10, 1000, np.random.default_rng(0)))
    assert found.ci_high == pytest.approx(0.05 + 4 * scipy.stats.t.ppf(0.975, 9) * scipy.stats.sem(num))


def coverage(draw: Callable[[np.random.Generator, int], tuple[Array, Array]], truth: float, n: int) -> float:
    """Share of 1,000 simulated samples whose interval holds the truth (standard error 0.7 %)."""
    rng = np.random.default_rng(0)
    held = 0
    for repetition in range(1000):
        if repetition % 50 == 0:
            weights = resampling_weights(n, 500, rng)
        num, den = draw(rng, n)
        estimate = bootstrap_ratio(num, den, weights)
        held += estimate.ci_low <= truth <= estimate.ci_high
    return held / 1000


def normal(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    return rng.normal(1.0, 1.0, n), np.ones(n)


def lognormal_ratio(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """A loss per token that varies by half between sequences, over token counts that vary as much."""
    den = rng.lognormal(0, 0.5, n)
    return den * rng.lognormal(-0.125, 0.5, n), den


def recovered_share(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """CE recovered: differences of losses; numerator and denominator share the sequence's difficulty."""
    difficulty = rng.gamma(4, 1.0, n)
    den = 2 * difficulty + rng.normal(0, 0.5, n)
    return 0.9 * den + rng.normal(0, 0.6, n) * difficulty**0.5, den


def heavy_denominator(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """A few units have most of the denominator."""
    den = rng.lognormal(0, 1.0, n)
    return den * rng.lognormal(-0.125, 0.5, n), den


CASES = [(normal, 1.0), (lognormal_ratio, 1.0), (recovered_share, 0.9), (heavy_denominator, 1.0)]


@pytest.mark.parametrize("n", [8, 16, 64])
@pytest.mark.parametrize(("draw", "truth"), CASES, ids=["normal", "lognormal", "recovered", "heavy"])
def test_the_95_percent_interval_covers_its_share(draw: Callable[..., tuple[Array, Array]], truth: float, n: int):
    assert 0.93 - 0.01 <= coverage(draw, truth, n) <= 0.97 + 0.015, "93 to 97 percent, and the error of the simulation"


def very_skewed(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    return rng.lognormal(-0.5, 1.0, n), np.ones(n)


def almost_all_zero(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    return rng.beta(0.1, 1.0, n), np.ones(n)


@pytest.mark.parametrize(("draw", "truth"), [(very_skewed, 1.0), (almost_all_zero, 0.1 / 1.1)])
@pytest.mark.parametrize("step", range(len(SKEWED_COVERAGE["bootstrap-t"]) + 1))
def test_the_stated_coverage_of_skewed_units_is_reached(
    draw: Callable[..., tuple[Array, Array]], truth: float, step: int
):
    """At the smallest number of units for which it is stated; the simulation's standard error is about 1 %."""
    table = SKEWED_COVERAGE["bootstrap-t"]
    n = MIN_UNITS if step == 0 else table[step - 1][0]
    stated = table[step][1] if step < len(table) else 93
    assert coverage(draw, truth, n) >= stated / 100 - 0.025
    shown = with_caveat("bootstrap-t", n)
    assert shown == "bootstrap-t" if step == len(table) else f"covers about {stated} %" in shown


@pytest.mark.parametrize(("draw", "truth"), [(very_skewed, 1.0), (almost_all_zero, 0.1 / 1.1)])
def test_the_stated_coverage_of_students_interval_is_reached(draw: Callable[..., tuple[Array, Array]], truth: float):
    table = SKEWED_COVERAGE["student-t"]
    sizes = [MIN_UNITS, *(below for below, _ in table)]
    for n, stated in zip(sizes, [*(percent for _, percent in table), 93], strict=True):
        rng = np.random.default_rng(n)
        values = np.stack([draw(rng, n)[0] for _ in range(4000)])
        half = student_quantile(n - 1) * values.std(1, ddof=1) / n**0.5
        assert np.mean(np.abs(values.mean(1) - truth) <= half) >= stated / 100 - 0.015


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
def test_all_alike_is_not_certain(value: float):
    """No sample differs, which says little about other units."""
    den = np.linspace(1, 2, 12)
    assert no_interval(list(value * den), list(den)) == pytest.approx(value, rel=1e-12)
    assert no_interval([value] * 12, [1.0] * 12) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "bounds", "method"),
    [
        (0.0, (0.0, 1.0), "agresti-coull"),
        (1.0, (0.0, 1.0), "agresti-coull"),
        (0.0, (-1.0, 1.0), "bonett-price"),
        (0.25, (0.0, 1.0), "all-alike"),
        (0.0, (-2.0, 2.0), "all-alike"),
    ],
)
def test_all_alike_within_bounds_reaches_towards_them(value: float, bounds: tuple[float, float], method: str):
    weights = resampling_weights(36, 200, np.random.default_rng(0))
    found = bootstrap_ratio(np.full(36, value), np.ones(36), weights, bounds)
    assert (found.value, found.method, found.n) == (value, method, 36)
    assert bounds[0] <= found.ci_low <= value <= found.ci_high <= bounds[1]
    assert 0.05 < found.ci_high - found.ci_low < 0.5


@pytest.mark.parametrize("length", [1.0, 60.0])
def test_counts_of_units_have_the_intervals_of_shares(length: float):
    hits, den = np.r_[np.ones(5), np.zeros(16)], np.full(21, length)
    weights = resampling_weights(21, 200, np.random.default_rng(0))
    for bounds in ((0.0, 1.0), (-np.inf, np.inf)):
        found = bootstrap_ratio(hits * length, den, weights, bounds)
        low, high = agresti_coull(5 / 21, 21)
        assert (found.ci_low, found.ci_high) == pytest.approx((float(low), float(high)))
    drops = hits - np.r_[np.zeros(20), 1.0]
    assert bootstrap_ratio(drops * length, den, weights).method == "bonett-price"
    assert bootstrap_ratio(drops * length, den, weights, (-1.0, 1.0)).method == "bonett-price"
    assert bootstrap_ratio(hits * length, den, weights, (-1.0, 1.0)).method == "bonett-price"
    assert bootstrap_ratio(hits * length, den, weights, (0.0, np.inf)).method.startswith("bootstrap-t")
    assert bootstrap_ratio(hits * length / 2, den, weights, (0.0, 1.0)).method.startswith("bootstrap-t")


def test_the_interval_stays_within_the_bounds():
    num = np.r_[np.ones(9), 0.3]
    weights = resampling_weights(10, 500, np.random.default_rng(0))
    free, cut = bootstrap_ratio(num, np.ones(10), weights), bootstrap_ratio(num, np.ones(10), weights, (0.0, 1.0))
    assert (free.ci_high > 1, cut.ci_high, cut.ci_low) == (True, 1.0, free.ci_low)
    beyond = student(1.0 + 1e-15, 0.1, 10, 11, "student-t")
    assert clipped(beyond, (0.0, 1.0)).ci_high == 1.0 + 1e-15
    assert np.isnan(clipped(mean_estimate(np.ones(1)), (0.0, 1.0)).ci_low)


def test_units_without_a_score_change_nothing():
    num, den = units(12, np.random.default_rng(0))
    weights = resampling_weights(20, 500, np.random.default_rng(1))
    with_gaps = bootstrap_ratio(np.r_[num, np.zeros(8)], np.r_[den, np.zeros(8)], weights)
    without = bootstrap_ratio(num, den, weights[:, :12])
    assert with_gaps.value == pytest.approx(without.value, rel=1e-12)
    assert (with_gaps.ci_low, with_gaps.ci_high) == pytest.approx((without.ci_low, without.ci_high), rel=1e-12)
    assert (with_gaps.n, with_gaps.method) == (20, without.method)


@pytest.mark.parametrize("n", range(2, MIN_UNITS + 2))
def test_too_few_units_have_a_value_only(n: int):
    num, den = units(n, np.random.default_rng(n))
    found = bootstrap_ratio(num, den, resampling_weights(n, 200, np.random.default_rng(0)))
    assert found.value == ratio(num, den)
    assert np.isfinite([found.ci_low, found.ci_high, found.stderr]).all() == (n >= MIN_UNITS)


@given(scale=st.floats(1e-6, 1e6), length=st.floats(1e-6, 1e6), seed=st.integers(0, 20))
def test_units_of_measurement_and_the_order_of_units_do_not_matter(scale: float, length: float, seed: int):
    rng = np.random.default_rng(seed)
    num, den = units(14, rng)
    weights, order = resampling_weights(14, 200, rng), rng.permutation(14)
    one = bootstrap_ratio(num, den, weights)
    other = bootstrap_ratio(scale * num[order], length * den[order], weights[:, order])
    ends = np.array([one.value, one.ci_low, one.ci_high, one.stderr]) * scale / length
    assert [other.value, other.ci_low, other.ci_high, other.stderr] == pytest.approx(ends, rel=1e-7)


def test_negative_denominators_are_as_good_as_positive_ones():
    num, den = units(40, np.random.default_rng(0))
    weights = resampling_weights(40, 300, np.random.default_rng(1))
    ours, other = bootstrap_ratio(num, den, weights), bootstrap_ratio(-num, -den, weights)
    assert other == ours


counts = st.integers(2, 12)


@given(data=st.data(), n=counts, seed=st.integers(0, 5))
def test_wild_inputs_never_raise_nor_cross(data: st.DataObject, n: int, seed: int):
    """Whatever comes in: an interval around the value, or none."""
    wild = st.floats(-(2.0**40), 2.0**40, width=32)
    num = data.draw(hnp.arrays(np.float64, n, elements=wild))
    den = data.draw(hnp.arrays(np.float64, n, elements=wild))
    weights = resampling_weights(n, 60, np.random.default_rng(seed))
    estimate = bootstrap_ratio(num, den, weights)
    if np.isnan(estimate.ci_low):
        assert np.isnan(estimate.ci_high)
        assert np.isnan(estimate.stderr)
        return
    assert estimate.ci_low <= estimate.value <= estimate.ci_high
    assert estimate.stderr >= 0


@given(n=st.integers(3, 60), outlier=st.floats(1, 1e9), seed=st.integers(0, 3))
def test_one_unit_far_from_the_others(n: int, outlier: float, seed: int):
    num = np.r_[np.linspace(0, 1, n - 1), outlier]
    estimate = bootstrap_ratio(num, np.ones(n), resampling_weights(n, 400, np.random.default_rng(seed)))
    if n >= MIN_UNITS:
        assert estimate.ci_low <= estimate.value <= estimate.ci_high


# ---------------------------------------------------------------- Student's intervals


def test_mean_against_scipy():
    values = np.random.default_rng(0).gamma(2, 1, 50)
    estimate = mean_estimate(values)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.stderr == pytest.approx(scipy.stats.sem(values))
    low, high = scipy.stats.t.interval(0.95, 49, values.mean(), scipy.stats.sem(values))
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
        assert getattr(weighted, field) == pytest.approx(getattr(plain, field), abs=1e-9, nan_ok=True)


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


def test_a_ratio_over_no_units_is_not_scored():
    weights = resampling_weights(0, 50, np.random.default_rng(0))
    assert weights.shape == (50, 0)
    assert np.isnan(bootstrap_ratio(np.zeros(0), np.zeros(0), weights).value)
