"""Folders that SAELens wrote: its model and ours draw from one distribution, and damage is said in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sae_lens import synthetic
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from saebench.errors import ModelError
from saebench.synthetic.load import load_synthetic
from saebench.synthetic.model import SyntheticModel
from saebench.synthetic.reference import CONFIG, parse_synthetic_ref


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = synthetic.SyntheticModelConfig(
        num_features=12,
        hidden_dim=8,
        firing_probability=synthetic.ZipfianFiringProbabilityConfig(0.5, 0.4, 0.1),
        hierarchy=synthetic.HierarchyConfig(total_root_nodes=2, branching_factor=2, max_depth=1),
        correlation=synthetic.LowRankCorrelationConfig(rank=3, correlation_scale=0.1),
        std_firing_magnitudes=0.2,
        bias=0.5,
        seed=42,
    )
    synthetic.SyntheticModel(config).save(tmp_path)
    return tmp_path


def load(folder: Path) -> SyntheticModel:
    return load_synthetic(parse_synthetic_ref(f"synthetic:{folder}"))


def test_what_sae_lens_saved_is_loaded(folder: Path):
    ours, theirs = load(folder), synthetic.SyntheticModel.load_from_disk(folder)
    assert_close(ours.directions, theirs.feature_dict.feature_vectors.data)
    assert_close(ours.bias, theirs.feature_dict.bias.data)
    assert (ours.n_features, ours.d, ours.latents) == (12, 8, 3)
    assert int((ours.parents >= 0).sum()) == 4
    rng = np.random.default_rng(3)
    x = ours.sample(64, rng).x
    torch.manual_seed(int(np.random.default_rng(3).integers(2**63)))
    assert_close(x, theirs.sample(64))


def test_the_hash_is_that_of_the_content(folder: Path, tmp_path: Path):
    before = load(folder).content_hash
    weights = load_file(folder / "synthetic_model.safetensors")
    save_file({**weights, "bias": weights["bias"] + 1}, folder / "synthetic_model.safetensors")
    assert load(folder).content_hash != before


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


@pytest.mark.parametrize("value", [10**12, -1, "many", None, 13])
def test_a_config_that_does_not_fit_the_weights_is_refused_before_memory_is_taken(folder: Path, value: Any):
    edit(folder, num_features=value)
    with pytest.raises(ModelError, match="feature_vectors must have the shape"):
        load(folder)


@pytest.mark.parametrize("changes", [{"firing_probability": {"generator_name": "no"}}, {"hierarchy": 3}, {"extra": 1}])
def test_other_damage_is_said_in_one_sentence(folder: Path, changes: dict[str, Any]):
    edit(folder, **changes)
    with pytest.raises(ModelError, match="SAELens cannot load it"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04"])
def test_weights_that_are_no_safetensors_are_refused(folder: Path, content: bytes):
    (folder / "synthetic_model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"synthetic_model\.safetensors cannot be read"):
        load(folder)


@pytest.mark.parametrize("bad", [0.0, torch.nan, torch.inf])
def test_directions_without_a_length_are_refused(folder: Path, bad: float):
    weights = load_file(folder / "synthetic_model.safetensors")
    weights["feature_vectors"][2] = bad
    save_file(weights, folder / "synthetic_model.safetensors")
    with pytest.raises(ModelError, match="the direction of a feature"):
        load(folder)


def test_a_config_that_is_a_list_is_refused(folder: Path):
    (folder / CONFIG).write_text("[]")
    with pytest.raises(ModelError, match="must have the shape"):
        load(folder)


@pytest.mark.parametrize(
    "hierarchy",
    [
        [],
        {},
        {"roots": [{"feature_index": 12}]},
        {"roots": [{"feature_index": 0, "children": [{"feature_index": "1"}]}]},
    ],
)
def test_a_hierarchy_of_other_features_is_refused(folder: Path, hierarchy: Any):
    (folder / "hierarchy.json").write_text(json.dumps(hierarchy))
    with pytest.raises(ModelError, match="names features that the model does not have"):
        load(folder)
