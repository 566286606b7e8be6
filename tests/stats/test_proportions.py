"""Intervals of shares: against scipy, by exact coverage, and at the boundaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, multinomial

from saebench.stats.proportions import agresti_coull, all_alike, paired_shares, weighted_proportion, wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(hits_and_n: tuple[int, int]) -> None:
    hits, n = hits_and_n
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    low, high = wilson(hits / n, n)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-9)
    wide = agresti_coull(hits / n, n)
    assert wide[0] <= low + 1e-12
    assert wide[1] >= high - 1e-12
    plain = weighted_proportion(np.arange(n) < hits)
    assert (plain.ci_low, plain.ci_high) == pytest.approx((float(wide[0]), float(wide[1])), abs=1e-12)
    assert (plain.value, plain.method) == (pytest.approx(hits / n), "agresti-coull")


def test_agresti_coull_by_hand() -> None:
    """2 of 10: about 4 of 14 (1998, section 3)."""
    z2 = 1.959963984540054**2
    centre, total = (2 + z2 / 2) / (10 + z2), 10 + z2
    half = (z2 * centre * (1 - centre) / total) ** 0.5
    low, high = agresti_coull(0.2, 10)
    assert (low, high) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(
    ("n", "least"), [(6, 0.90), (8, 0.91), (12, 0.92), (16, 0.92), (21, 0.92), (36, 0.93), (64, 0.93)]
)
def test_a_share_is_covered_whatever_it_is(n: int, least: float) -> None:
    """Exact coverage, for every share from 0.2 % to 99.8 %."""
    hits = np.arange(n + 1)
    low, high = agresti_coull(hits / n, n)
    shares = np.linspace(0.002, 0.998, 499)
    covered = np.array([binom.pmf(hits, n, p)[(low <= p) & (p <= high)].sum() for p in shares])
    assert covered.min() >= least
    assert 0.94 <= covered.mean() <= 0.975


def outcomes(n: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """All numbers of gains and losses of ``n`` units, and the ends of their intervals."""
    counts = np.array([(gains, losses) for gains in range(n + 1) for losses in range(n + 1 - gains)])
    units = np.arange(n)
    found = [
        paired_shares((units < gains).astype(float) - ((units >= gains) & (units < gains + losses)))
        for gains, losses in counts
    ]
    return counts, np.array([each.ci_low for each in found]), np.array([each.ci_high for each in found])


@pytest.mark.parametrize("n", [6, 12, 16, 36])
def test_a_difference_of_shares_is_covered_whatever_it_is(n: int) -> None:
    """Exact coverage, also where most samples show no difference at all."""
    counts, low, high = outcomes(n)
    coverage = []
    for p in (0.0, 0.01, 0.03, 0.14, 0.3, 0.5, 0.7):
        for q in (0.0, 0.01, 0.05, 0.2):
            chance = multinomial.pmf(np.c_[counts, n - counts.sum(1)], n, [p, q, 1 - p - q])
            coverage.append(float(chance[(low <= p - q + 1e-12) & (p - q - 1e-12 <= high)].sum()))
    assert min(coverage) >= 0.93


def test_no_difference_among_36_is_not_certain() -> None:
    found = paired_shares(np.zeros(36))
    assert found.value == 0
    assert found.ci_high == pytest.approx(1.959963984540054 * (2 / 38 / 38) ** 0.5)
    assert found.ci_low == -found.ci_high


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40))
def test_a_difference_of_shares_lies_in_its_interval_and_turns_with_its_sign(values: list[float]) -> None:
    found, turned = paired_shares(np.array(values)), paired_shares(-np.array(values))
    assert -1 <= found.ci_low <= found.value <= found.ci_high <= 1
    assert (turned.ci_low, turned.ci_high) == pytest.approx((-found.ci_high, -found.ci_low))
    assert found.value == pytest.approx(np.mean(values))
    assert found.stderr == pytest.approx(np.std(values) / len(values) ** 0.5, abs=1e-9)


def test_what_all_units_share_reaches_towards_the_bounds() -> None:
    found = all_alike(0.25, np.ones(20), (0.0, 1.0))
    unseen = float(agresti_coull(0.0, 20)[1])
    assert (found.ci_low, found.ci_high) == pytest.approx((0.25 * (1 - unseen), 0.25 + 0.75 * unseen))
    assert 0.1 < unseen < 0.25
    for bounds in ((-np.inf, 1.0), (0.0, np.inf), (0.5, 1.0)):
        assert np.isnan(all_alike(0.25, np.ones(20), bounds).ci_low)


def test_wilson_broadcasts_and_has_no_interval_without_trials() -> None:
    low, high = wilson(np.array([0.0, 0.5, 1.0, np.nan]), 2)
    assert low.shape == high.shape == (4,)
    assert low[0] == 0
    assert high[2] == 1
    assert np.isnan([low[3], high[3]]).all()
    assert np.isnan(wilson(0.5, 0)).all()


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_proportion_exactly(hits_and_n: tuple[int, int]) -> None:
    """Rounding would put the lower end of 0 of 14 at 1e-17."""
    share = hits_and_n[0] / hits_and_n[1]
    low, high = wilson(share, hits_and_n[1])
    assert low <= share <= high
    assert wilson(0.0, 14)[0] == 0


def test_weights_count_as_so_many_trials_as_they_are_worth() -> None:
    hits = np.array([1.0, 0, 1, 0, 0])
    assert weighted_proportion(hits, np.full(5, 3.0)) == weighted_proportion(hits)
    assert weighted_proportion(hits, np.array([1.0, 1, 1, 1, 0])).value == pytest.approx(0.5)
    heavy = weighted_proportion(hits, np.array([1000.0, 1, 1, 1, 1]))
    low, high = agresti_coull(heavy.value, 1.0)
    assert (heavy.ci_low, heavy.ci_high) == pytest.approx((low, high), abs=0.01)
    assert np.isnan(weighted_proportion(hits, np.zeros(5)).value)
    assert np.isnan(weighted_proportion(np.zeros(0)).value)


def test_the_interval_of_a_weighted_share_covers_it() -> None:
    rng = np.random.default_rng(0)
    weights = rng.exponential(size=300)  # the same kind of skew as firing frequencies, milder
    covered = 0
    for _ in range(400):
        found = weighted_proportion((rng.random(300) < 0.3).astype(float), weights)
        covered += found.ci_low <= 0.3 <= found.ci_high
    assert covered / 400 > 0.92
