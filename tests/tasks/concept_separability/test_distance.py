"""Distances: their values, how often their intervals cover the truth, and contributions that reproduce them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saebench.stats.divergence import adjusted, histogram_chance, histogram_divergences
from saebench.stats.histogram import Activations, quantile_bins
from saebench.stats.intervals import ratio
from saebench.tasks.concept_separability.distance import Share, difference, distance

GROUPS, CLASSES, EACH = 10, 4, 6  # EACH: examples of each class in each group


def share(values: list[float], spread: float = 0.01, seed: int = 0) -> Share:
    draw = np.random.default_rng(seed)
    return Share(np.array(values), [value + spread * draw.standard_normal(GROUPS) for value in values])


def test_value_interval_and_contributions():
    measured = share([0.09, 0.25])
    estimate, parts = distance(measured, 100)
    assert estimate.value == pytest.approx(np.sqrt(0.17))
    assert estimate.ci_low < estimate.value < estimate.ci_high
    assert len(parts) == 2 * GROUPS
    assert ratio(parts, np.ones_like(parts)) == pytest.approx(estimate.value)
    from_parts = float(parts.std(ddof=1) / np.sqrt(len(parts)))
    assert from_parts == pytest.approx(estimate.stderr, rel=0.1)  # the root is nearly linear here


def test_a_single_set_is_the_plain_jackknife():
    measured = share([0.09])
    estimate, _ = distance(measured, 100)
    out = measured.left_out[0]
    se = np.sqrt((GROUPS - 1) / GROUPS * np.sum((out - out.mean()) ** 2))
    assert estimate.ci_high**2 - 0.09 == pytest.approx(2.2622 * se, rel=1e-4)  # t with 9 degrees of freedom


def test_noise_around_zero_is_reported_as_zero():
    estimate, parts = distance(share([-0.001], spread=1e-4), 100)
    assert (estimate.value, estimate.ci_low) == (0, 0)
    assert estimate.ci_high >= 0
    assert parts.mean() == pytest.approx(0, abs=1e-12)
    unscored, _ = distance(Share(np.array([np.nan]), [np.full(GROUPS, np.nan)]), 100)
    assert np.isnan(unscored.value)


def test_the_difference_of_equals_is_exactly_zero():
    estimate, parts = difference(share([0.09, 0.25]), share([0.09, 0.25]), 100)
    assert (estimate.value, estimate.ci_low, estimate.ci_high) == (0, 0, 0)
    assert not parts.any()
    larger, _ = difference(share([0.25]), share([0.09]), 100)
    assert larger.value == pytest.approx(0.2)


def average(z: torch.Tensor) -> Share:
    """The mean share over the latents of ``z[examples, latents]``; classes take turns, and groups follow each other."""
    label = torch.arange(CLASSES).repeat(GROUPS * EACH)
    group = torch.arange(GROUPS).repeat_interleave(CLASSES * EACH)
    bins = quantile_bins(Activations.of(z), 8, 10)
    counts = bins.counts(label * GROUPS + group, CLASSES * GROUPS).view(-1, CLASSES, GROUPS)

    def mean(inside: torch.Tensor, per_class: int) -> float:
        plug_in, chance = (f(bins, inside, per_class) for f in (histogram_divergences, histogram_chance))
        return float(adjusted(plug_in, chance, CLASSES).joint.mean())

    whole = counts.sum(-1)
    left_out = [mean(whole - counts[..., g], (GROUPS - 1) * EACH) for g in range(GROUPS)]
    return Share(np.array([mean(whole, GROUPS * EACH)]), [np.array(left_out)])


def test_intervals_cover_the_truth():
    """Of 40 intervals about 95 % must cover the truth, where latents share noise of the examples as an SAE's do."""
    draw = torch.Generator().manual_seed(0)
    label = torch.arange(CLASSES).repeat(GROUPS * EACH)
    covered = {"signal": 0, "none": 0}

    def latents(n: int, signal: float) -> torch.Tensor:
        labels = label.repeat(n // len(label))
        common = torch.randn(n, 1, generator=draw)
        own = torch.randn(n, 10, generator=draw)
        return (own + common + signal * (labels == 0)[:, None] - 1).relu()

    big = latents(240 * 100, 1.5)
    bins = quantile_bins(Activations.of(big), 8, 10)
    counts = bins.counts(label.repeat(100), CLASSES)
    truth = float(histogram_divergences(bins, counts, 6_000).joint.mean()) / 2
    for _ in range(40):
        signal, _ = distance(average(latents(240, 1.5)), 240)
        none, _ = distance(average(latents(240, 0.0)), 240)
        covered["signal"] += signal.ci_low <= np.sqrt(truth) <= signal.ci_high
        covered["none"] += none.ci_low <= 0 <= none.ci_high
    assert covered["signal"] >= 35
    assert covered["none"] >= 35
