"""The lenses against closed forms, simulations and independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from saebench.audit import lenses
from saebench.stats.rng import generator


def test_noise_splits_the_spread_into_saes_seeds_and_the_rest() -> None:
    quality, seeds = np.array([0.0, 1.0, 4.0]), np.array([0.0, 10.0, -3.0, 5.0])
    found = lenses.noise(quality[:, None] + seeds)

    assert found.pair.value == pytest.approx(0.0, abs=1e-12)  # every seed moves all SAEs alike
    assert found.share.value == pytest.approx(0.0, abs=1e-12)
    assert found.run.value == pytest.approx(np.std(seeds, ddof=1))


def test_noise_recovers_what_a_simulation_put_in() -> None:
    rng = generator(0, "audit: noise")
    saes, seeds, spread, rest = 400, 5, 2.0, 1.0
    values = rng.normal(0, spread, (saes, 1)) + rng.normal(0, 3, (1, seeds)) + rng.normal(0, rest, (saes, seeds))
    found = lenses.noise(values)

    assert found.pair.value == pytest.approx(rest, rel=0.05)
    assert found.reliable.value == pytest.approx(1.96 * math.sqrt(2) * rest, rel=0.05)
    share = found.share
    assert share.value == pytest.approx(rest**2 / (rest**2 + spread**2), abs=0.03)
    assert share.ci_low < rest**2 / (rest**2 + spread**2) < share.ci_high


def test_interval_of_the_share_of_noise_covers_it() -> None:
    rng, covered, draws = generator(1, "audit: noise"), 0, 600
    for _ in range(draws):
        values = rng.normal(0, 1.0, (4, 1)) + rng.normal(0, 1.0, (4, 5))
        share = lenses.noise(values).share
        covered += share.ci_low <= 0.5 <= share.ci_high
    assert 0.93 <= covered / draws <= 0.97


def test_noise_leaves_out_what_is_not_scored() -> None:
    values = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, math.nan], [math.nan, math.nan, 1.0]])
    assert lenses.noise(values) == lenses.noise(values[:2, :2])
    assert lenses.noise(np.full((2, 3), math.nan)).pair.value is None
    assert lenses.noise(np.zeros((0, 0))).share.value is None
    assert lenses.noise(np.array([[1.0, 2.0]])).share.value is None  # one SAE differs from none
    assert lenses.noise(np.array([[1.0, 2.0]])).run.value == pytest.approx(math.sqrt(0.5))


def test_noise_of_equal_saes_is_unknown_and_of_exact_ones_none() -> None:
    assert lenses.noise(np.ones((3, 4))).share.value is None
    assert lenses.noise(np.array([[1.0, 1.0], [2.0, 2.0]])).share.value == 0.0


def test_rank_correlation_agrees_with_scipy_and_holds_the_truth() -> None:
    rng = generator(2, "audit: rank")
    x = rng.normal(size=15)
    y = x + rng.normal(size=15)
    found = lenses.rank_correlation(x.tolist(), [*y.tolist()])
    assert found.value == pytest.approx(spearmanr(x, y).statistic)
    assert -1 <= found.ci_low < found.value < found.ci_high <= 1
    assert lenses.rank_correlation([1, 2, 3, 4, 5], [2, 4, 6, 8, 10]).value == pytest.approx(1.0)


def test_rank_correlation_needs_values_that_differ() -> None:
    assert lenses.rank_correlation([1, 2], [1, 2]).value is None
    assert lenses.rank_correlation([1, 1, 1], [1, 2, 3]).value is None
    constant = lenses.rank_correlation([1, 2, 3, 4], [7, 7, 7, 7])
    assert (constant.value, constant.ci_low, constant.ci_high) == (0.0, -1.0, 1.0)
    assert lenses.rank_correlation([1, 2, 3, 4], [1, 2, math.nan, 3]).n == 3


def test_separation_counts_pairs() -> None:
    assert lenses.separation([3, 4], [1, 2]).value == 1.0
    assert lenses.separation([1, 3], [1, 2]).value == pytest.approx(2.5 / 4)
    assert lenses.separation([math.nan], [1]).value is None


def test_not_below_names_the_best_first() -> None:
    assert lenses.not_below({"a": 1.0, "b": 3.0, "c": 2.0}, 2.0) == ["b", "c"]


def test_largest_shift_is_unknown_where_a_value_is_lost() -> None:
    assert lenses.largest_shift({"a": 1.0, "b": 2.0}, {"a": 1.5, "b": 2.25}).value == 0.5
    assert lenses.largest_shift({"a": 1.0}, {"a": math.nan}).value is None
    assert lenses.largest_shift({"a": 1.0}, {}).value is None
