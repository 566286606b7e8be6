"""What the zoo's training script does to activations and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig, TopKSAE, TopKSAEConfig

from scripts import train_zoo


@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_folding_gives_the_same_sae_on_raw_activations(architecture: str):
    generator = torch.Generator().manual_seed(0)
    sae = (
        TopKSAE(TopKSAEConfig(d_in=8, d_sae=16, k=3))
        if architecture == "topk"
        else JumpReLUSAE(JumpReLUSAEConfig(d_in=8, d_sae=16))
    )
    weights = {name: torch.randn(value.shape, generator=generator) for name, value in sae.state_dict().items()}
    weights["W_dec"] /= weights["W_dec"].norm(dim=1, keepdim=True)
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"].abs()
    x = torch.randn(50, 8, generator=generator)
    mean, scale = 100 * torch.randn(8, generator=generator).double(), torch.tensor(37.0, dtype=torch.float64)

    sae.load_state_dict(weights)
    z = sae.encode(x)
    expected = sae.decode(z).double() * scale + mean
    sae.load_state_dict({name: value.float() for name, value in train_zoo.fold(weights, mean, scale).items()})
    raw = (x.double() * scale + mean).float()
    torch.testing.assert_close(sae.encode(raw), z * float(scale), rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(sae.decode(sae.encode(raw)).double(), expected, rtol=1e-4, atol=2e-3)


def test_nine_in_ten_sinks_are_left_out_of_training():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(2000, 8)).astype(np.float16)
    sinks = rng.permutation(2000)[:100]
    data[sinks, 3] = 500
    rows = train_zoo.training_rows(data)
    assert len(rows) == 2000 - 90
    assert len(np.intersect1d(rows, sinks)) == 10
    assert len(np.unique(rows)) == len(rows)


def test_the_zoo_is_what_the_documentation_says():
    recipes = train_zoo.ZOO
    seeds = [recipe for recipe in recipes.values() if recipe.group == "topk-k32"]
    assert sorted(recipe.seed for recipe in seeds) == [0, 1, 2]
    assert len({(recipe.architecture, recipe.k, recipe.frozen_decoder) for recipe in seeds}) == 1
    assert [name for name, recipe in recipes.items() if recipe.frozen_decoder] == ["frozen-topk-k32-s0"]
    page = (Path(train_zoo.__file__).parents[1] / "docs" / "zoo.md").read_text()
    assert all(f"`{name}`" in page or name.startswith("topk-k32") for name in recipes)
