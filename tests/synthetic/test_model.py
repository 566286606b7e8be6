"""Synthetic models: the laws that they follow, and draws that depend on the seed and the content alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from saebench.synthetic.load import load_synthetic, make
from saebench.synthetic.model import SyntheticModel
from saebench.synthetic.recipes import RECIPES
from saebench.synthetic.reference import parse_synthetic_ref


def model(name: str) -> SyntheticModel:
    return load_synthetic(parse_synthetic_ref(f"synthetic:{name}"))


@pytest.fixture(scope="module")
def tiny() -> SyntheticModel:
    return model("tiny")


@pytest.mark.parametrize("name", ["tiny", "orthogonal"])
def test_an_activation_is_the_sum_of_its_features(name: str):
    made = model(name)
    samples = made.sample(300, np.random.default_rng(0))
    features = samples.features(slice(None))
    assert features.shape == (300, made.n_features)
    assert bool((features >= 0).all())
    assert bool((samples.magnitude > 0).all())
    assert_close(features @ made.directions + made.bias, samples.x)
    assert_close(made.directions.norm(dim=1), torch.ones(made.n_features))
    assert float(made.bias.norm()) == pytest.approx(RECIPES[name].bias)


def test_rows_are_those_of_all_samples(tiny: SyntheticModel):
    samples = tiny.sample(100, np.random.default_rng(0))
    every = samples.features(slice(None))
    for rows in (slice(0, 10), slice(90, 200), slice(40, 40), slice(99, None)):
        assert torch.equal(samples.features(rows), every[rows])


def test_the_same_state_gives_the_same_samples_and_leaves_the_global_generator_alone(tiny: SyntheticModel):
    before = torch.get_rng_state()
    one, same, other = (tiny.sample(50, np.random.default_rng(seed)).x for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(tiny.sample(50, np.random.default_rng(1)).x, one)


def test_a_seed_makes_a_model(tiny: SyntheticModel):
    again, other = model("tiny"), model("tiny?seed=1")
    assert torch.equal(again.directions, tiny.directions)
    assert again.content_hash == tiny.content_hash
    assert other.content_hash != tiny.content_hash
    assert not torch.allclose(other.directions, tiny.directions)


def test_every_setting_is_in_the_hash():
    recipe = RECIPES["tiny"]
    changed = [
        replace(recipe, **{key: value})
        for key, value in {"n_features": 25, "p_max": 0.2, "roots": 0, "spread": 0.4, "orthogonal": None}.items()
    ]
    assert len({each.content_hash(0) for each in (recipe, *changed)}) == len(changed) + 1


def test_features_fire_as_often_as_the_law_says():
    independent = make(replace(RECIPES["tiny"], roots=0, rank=0), 0, "made")
    fires = independent.sample(20_000, np.random.default_rng(0)).features(slice(None)) > 0
    ranks = np.arange(1, 25) ** -0.5
    expected = 0.05 + 0.25 * (ranks - ranks.min()) / (ranks.max() - ranks.min())
    np.testing.assert_allclose(fires.double().mean(0), expected, atol=5 * np.sqrt(0.25 / 20_000))


def test_correlations_do_not_change_how_often_features_fire():
    recipe = replace(RECIPES["tiny"], roots=0)
    rates = [
        (make(each, 0, "made").sample(20_000, np.random.default_rng(0)).features(slice(None)) > 0).double()
        for each in (recipe, replace(recipe, rank=0), replace(recipe, correlation=0.6))
    ]
    assert_close(rates[0].mean(0), rates[1].mean(0), atol=0.025, rtol=0)
    between = [np.abs(np.corrcoef(each.numpy().T) - np.eye(24)).max() for each in rates[1:]]
    assert between[1] > 2 * between[0]


def test_a_child_fires_with_its_parent_and_alone_among_its_siblings(tiny: SyntheticModel):
    fires = tiny.sample(5000, np.random.default_rng(0)).features(slice(None)) > 0
    children = (tiny.parents >= 0).nonzero()[:, 0]
    assert len(children) == 6
    assert not bool((fires[:, children] & ~fires[:, tiny.parents[children]]).any())
    for parent in tiny.parents[children].unique():
        assert int(fires[:, tiny.parents == parent].sum(1).max()) == 1


def test_magnitudes_fall_with_the_rank(tiny: SyntheticModel):
    samples = tiny.sample(20_000, np.random.default_rng(0))
    index, magnitude = samples.index[1], samples.magnitude
    means = [float(magnitude[index == feature].mean()) for feature in (0, 23)]
    assert means == pytest.approx([5, 4], abs=0.15)


def test_pushing_apart_lowers_the_cosines_and_orthogonal_is_exact():
    def largest(orthogonal: int | None, **more: int) -> float:
        directions = make(replace(RECIPES["tiny"], orthogonal=orthogonal, **more), 0, "made").directions
        return float((directions @ directions.T).fill_diagonal_(0).abs().max())

    assert largest(100) < largest(0) - 0.1
    assert largest(None, d=32) < 1e-6
