"""Files of crosscoders and cross-layer transcoders that cannot be run as they were trained are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from saebench.errors import HookMismatchError, SAELoadError, UsageError
from saebench.sae.base import LoadContext
from saebench.sae.reference import load_sae, parse_sae_ref
from tests.sae.several import files
from tests.sae.several.files import EXAMPLES, SITES, D, M


def refused(reference: str, message: str) -> None:
    with pytest.raises(SAELoadError, match=message) as caught:
        load_sae(reference, LoadContext())
    assert str(caught.value).count(". ") == 0  # one sentence


def edit(path: Path, **changes: Any) -> None:
    """Change tensors of a safetensors file, or settings of a JSON file; None takes one away."""
    is_json = path.suffix == ".json"
    content = json.loads(path.read_text()) if is_json else load_file(path)
    content = {key: value for key, value in {**content, **changes}.items() if value is not None}
    path.write_text(json.dumps(content)) if is_json else save_file(content, path)


def test_a_crosscoder_without_its_factors(tmp_path: Path) -> None:
    reference = files.nanda(tmp_path).reference.partition("?")[0]
    refused(reference, r"by a factor, which the files do not hold; add \?norm_scaling_factor")
    refused(f"{reference}?norm_scaling_factor=0.1+0.2+0.3", "at each of its 2 hook points")


@pytest.mark.parametrize("factor", ["0", "-1", "1+", "nan", "inf", "a"])
def test_factors_that_are_none(tmp_path: Path, factor: str) -> None:
    files.nanda(tmp_path)
    with pytest.raises(UsageError, match="one number above 0"):
        parse_sae_ref(f"nanda_crosscoder:{tmp_path}?norm_scaling_factor={factor}")


def test_a_crosscoder_of_two_models_loads_and_fits_no_model(tmp_path: Path) -> None:
    example = files.nanda(tmp_path)

    def d_at(site: str) -> int:
        from saebench.lm.site import parse_site

        return D if parse_site(site) else 0

    with pytest.raises(HookMismatchError, match="has one language model"):
        load_sae(example.reference, LoadContext(d_in=d_at))
    load_sae(f"{example.reference}&hook=blocks.0-1.hook_resid_pre", LoadContext(d_in=d_at))


@pytest.mark.parametrize("code", ["CROSSCODER", "DECOUPLED"])
def test_a_threshold_that_was_never_estimated(tmp_path: Path, code: str) -> None:
    refused(files.finetuning(tmp_path, code, threshold=-1.0).reference, "never estimated")


def test_a_code_normalization_that_is_not_known(tmp_path: Path) -> None:
    example = files.finetuning(tmp_path, "SAE", threshold=1.0)
    edit(tmp_path / "model.safetensors", code_normalization_id=torch.tensor(9))
    refused(example.reference, "code normalization 9.0 is not known")


def test_hook_points_are_asked_for_by_number(tmp_path: Path) -> None:
    example = files.finetuning(tmp_path)
    folder = example.reference.partition("?")[0]
    refused(folder, r"do not say where it reads; add all hook points to the reference, in order, such as \?hook=")
    refused(f"{folder}?hook=blocks.0-1.hook_resid_post", r"at 3 hook points, and 2 are named \(blocks.0-1")
    with pytest.raises(UsageError, match="one or several hook points"):
        parse_sae_ref(f"{folder}?hook=blocks.0-1.a+blocks.1.a")


def test_layers_that_the_encoder_does_not_have(tmp_path: Path) -> None:
    example = files.finetuning(tmp_path, "SAE", read=(0, 2))
    edit(tmp_path / "config.json", encoder_layers=[0, 7])
    refused(example.reference, "number 0, 7, counted from 0, and the reference names only 3")
    edit(tmp_path / "config.json", encoder_layers=[0, "a"])
    refused(example.reference, "encoder_layers must list numbers")


@pytest.mark.parametrize("make", [files.lm_saes, files.lm_saes_clt], ids=["crosscoder", "clt"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_fn": "batchtopk"}, "batchtopk selects latents among all tokens of a batch"),
        ({"act_fn": "swish"}, "activation function 'swish' is not known"),
        ({"norm_activation": "token-wise"}, "token-wise .norm_activation., which saebench cannot undo"),
        ({"sae_type": "molt"}, "sae_type 'molt', and"),
        ({"top_k": 0, "act_fn": "topk"}, "k=0 must be from 1"),
        ({"top_k": "many", "act_fn": "topk"}, "top_k must be of type int"),
        ({"hook_points": [], "hook_points_in": []}, "must be a list of hook points"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_settings_of_llamascopium(
    tmp_path: Path, make: Callable[..., files.Example], changes: dict[str, Any], message: str
) -> None:
    example = make(tmp_path, "relu")
    edit(tmp_path / "config.json", **changes)
    refused(example.reference, message)


def test_norms_that_are_missing(tmp_path: Path) -> None:
    example = files.lm_saes(tmp_path, "relu")
    key = "dataset_average_activation_norm.blocks.1.hook_resid_post"
    edit(tmp_path / "sae_weights.safetensors", **{key: torch.tensor(torch.nan)})
    refused(example.reference, "mean norm of activations at blocks.1.hook_resid_post is not stored")
    edit(tmp_path / "sae_weights.safetensors", **{key: None})
    refused(example.reference, "is not stored")


def test_a_distributed_checkpoint_alone(tmp_path: Path) -> None:
    example = files.lm_saes(tmp_path, "relu")
    (tmp_path / "sae_weights.safetensors").rename(tmp_path / "sae_weights.dcp")
    refused(example.reference, "distributed checkpoint")


def test_a_layer_that_is_missing(tmp_path: Path) -> None:
    example = files.circuit_tracer(tmp_path, jump=True)
    (tmp_path / "W_dec_1.safetensors").unlink()
    refused(example.reference, r"holds 2 files W_dec_\*.safetensors, but none of layer 1")
    refused(f"circuit_tracer_clt:{tmp_path / 'W_enc_0.safetensors'}", "is no folder")


def test_a_layer_of_another_shape(tmp_path: Path) -> None:
    example = files.circuit_tracer(tmp_path, jump=True)
    save_file({"W_dec_1": torch.zeros(M, 3, D)}, tmp_path / "W_dec_1.safetensors")
    refused(example.reference, rf"W_dec_1 has the shape \[{M}, 3, {D}\], but \[{M}, 2, {D}\] is expected")


def test_files_of_transcoders_of_single_layers(tmp_path: Path) -> None:
    example = files.circuit_tracer(tmp_path, jump=True)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("cross_layer_transcoder", "transcoder_set"))
    refused(example.reference, "'transcoder_set'; use circuit_tracer:")


@pytest.mark.parametrize("act", ["batchtopk", "topk"])
def test_latents_that_are_ranked_among_the_tokens_of_a_batch(tmp_path: Path, act: str) -> None:
    example = files.crosslayer(tmp_path, "none", "relu")
    edit(tmp_path / "cfg.json", activation_fn=act)
    refused(example.reference, "among all tokens of a batch")


def test_means_that_lie_elsewhere(tmp_path: Path) -> None:
    example = files.crosslayer(tmp_path, "none", "relu", scaling="mean_std")
    stats = json.loads((tmp_path / "norm_stats.json").read_text())
    stats["1"]["targets"]["std"] = [1.0]
    (tmp_path / "norm_stats.json").write_text(json.dumps(stats))
    refused(example.reference, f"must hold {D} numbers under 1.targets.std")
    (tmp_path / "norm_stats.json").unlink()
    refused(example.reference, "normalised activations with the means in norm_stats.json, which lies with the")


def test_a_config_that_tells_no_size(tmp_path: Path) -> None:
    example = files.crosslayer(tmp_path, "none", "relu")
    (tmp_path / "cfg.json").unlink()
    refused(f"{example.reference}?hook={SITES}", "must tell num_layers")


BINARY = [name for name in EXAMPLES if "pickle" not in name]


@pytest.mark.parametrize("name", BINARY)
def test_weights_that_hold_nan_are_refused(tmp_path: Path, name: str) -> None:
    example = EXAMPLES[name](tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        content = load_file(file)
        key = next(key for key, tensor in content.items() if tensor.ndim > 1 and "activation" not in key)
        content[key].view(-1)[0] = torch.nan
        save_file(content, file)
    for file in tmp_path.glob("*.pt"):
        content = torch.load(file, weights_only=True)
        content["W_enc"][0, 0, 0] = torch.nan
        torch.save(content, file)
    refused(example.reference, "NaN or Inf")


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kept", [0, 7, 300])
def test_weights_that_are_cut_off_are_refused(tmp_path: Path, name: str, kept: int) -> None:
    example = EXAMPLES[name](tmp_path)
    for file in [*tmp_path.glob("*.safetensors"), *tmp_path.glob("*.pt")]:
        file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(SAELoadError):
        load_sae(example.reference, LoadContext())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(["lm-saes-clt-topk", "lm-saes-crosscoder-topk", "crosslayer-per-source"]), data=st.data())
def test_any_setting_of_a_config_file_is_used_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"several-{name}"
    example = EXAMPLES[name](folder)
    config = folder / ("cfg.json" if name.startswith("crosslayer") else "config.json")
    key = data.draw(st.sampled_from(sorted(json.loads(config.read_text()))))
    edit(config, **{key: data.draw(json_values)})
    try:
        sae = load_sae(example.reference, LoadContext())
    except SAELoadError:
        return
    assert sae.encode(torch.ones(1, sae.d_in)).shape == (1, sae.d_sae)
