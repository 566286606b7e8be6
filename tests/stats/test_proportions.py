"""Wilson intervals against scipy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from saebench.stats.proportions import weighted_proportion, wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(hits_and_n: tuple[int, int]) -> None:
    hits, n = hits_and_n
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    low, high = wilson(hits / n, n)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-9)
    plain = weighted_proportion(np.arange(n) < hits)
    np.testing.assert_allclose([plain.ci_low, plain.ci_high], [expected.low, expected.high], atol=1e-9)
    assert plain.value == pytest.approx(hits / n)


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
    low, high = wilson(heavy.value, 1.0)
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
