"""The expanded percentile interval: by hand, by coverage, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t

from saebench.stats.intervals import resampling_weights
from saebench.stats.percentile import expanded_percentile


def test_of_a_normal_bootstrap_it_is_students_interval():
    """Bootstrap means of n values have the spread s / sqrt(n) sqrt((n - 1) / n); the stretch undoes the last factor."""
    n, levels = 10, np.linspace(0, 1, 200_003)[1:-1]
    replicates = norm.ppf(levels) * np.sqrt((n - 1) / n)
    found = expanded_percentile(np.r_[0.0, replicates], n)
    assert found.ci_high == pytest.approx(t.ppf(0.975, n - 1), rel=1e-3)
    assert found.ci_low == pytest.approx(-found.ci_high)
    assert found.stderr == pytest.approx(1.0, rel=1e-2)
    assert (found.n, found.method) == (n, "expanded-percentile")
    cut = expanded_percentile(np.r_[0.0, replicates], n, bounds=(-1.0, 1.5))
    assert (cut.ci_low, cut.ci_high) == (-1.0, 1.5)


@pytest.mark.parametrize("n", [8, 16])
def test_it_covers_a_mean_of_few_units(n: int):
    rng = np.random.default_rng(0)
    held = plain = 0
    for repetition in range(1500):
        if repetition % 50 == 0:
            weights = resampling_weights(n, 1000, rng) / n
        x = rng.normal(1.0, 1.0, n)
        replicates = weights @ x
        found = expanded_percentile(np.r_[x.mean(), replicates], n)
        held += found.ci_low <= 1 <= found.ci_high
        low, high = np.quantile(replicates, [0.025, 0.975])
        plain += low <= 1 <= high
    assert 0.925 <= held / 1500 <= 0.97
    assert plain < held - 15


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [1.0, np.nan, 2.0], [np.inf, 1.0, 2.0], [1.0, 0.3]])
def test_no_interval(values: list[float]):
    assert np.isnan(expanded_percentile(np.array(values), 20).ci_low)
    assert np.isnan(expanded_percentile(np.array([1.0, 0.5, 2.0]), 5).ci_high)
