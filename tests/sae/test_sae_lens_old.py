"""SAELens' files of all ages: what an SAE computes against its formula, written out in float64, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close

from saebench.errors import SAELoadError
from saebench.sae.protocol import Capability, HookSite
from saebench.sae.sae_lens_adapter import SAELensAdapter

D_IN, D_SAE = 16, 32
SITE = "blocks.1.hook_resid_post"
# As SAELens 2 to 5 wrote it, with the entries of training that matter to nobody.
FLAT = {
    "model_name": "tiny",
    "hook_point": SITE,
    "hook_point_layer": 1,
    "hook_point_head_index": None,
    "dataset_path": "x/y",
    "context_size": 128,
    "d_in": D_IN,
    "d_sae": D_SAE,
    "dtype": "torch.float32",
    "device": "cuda",
    "expansion_factor": 2,
    "l1_coefficient": 0.0005,
    "lp_norm": 1,
    "finetuning_scaling_factor": False,
    "prepend_bos": True,
}

Weights = dict[str, Tensor]
Write = Callable[..., Path]


@pytest.fixture
def weights() -> Weights:
    draw = torch.Generator().manual_seed(3)
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
    return {key: torch.randn(shape, generator=draw) * 0.5 for key, shape in shapes.items()}


@pytest.fixture
def write(tmp_path: Path, weights: Weights) -> Write:
    """``write(tensors=..., **config)``: a flat folder with changes."""

    def save(tensors: Weights | None = None, **config: Any) -> Path:
        (tmp_path / "cfg.json").write_text(json.dumps({**FLAT, **config}))
        save_file({**weights, **(tensors or {})}, tmp_path / "sae_weights.safetensors")
        return tmp_path

    return save


def before(x: Tensor, weights: Weights) -> Tensor:
    """The pre-activations in float64."""
    w = {key: tensor.double() for key, tensor in weights.items()}
    return (x.double() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]


def decoded(z: Tensor, weights: Weights) -> Tensor:
    return z @ weights["W_dec"].double() + weights["b_dec"].double()


def largest(p: Tensor, k: int) -> Tensor:
    values, indices = p.topk(k, dim=-1)
    return torch.zeros_like(p).scatter_(-1, indices, values.relu())


def agrees(sae: SAELensAdapter, x: Tensor, z: Tensor, xhat: Tensor) -> None:
    ours = sae.encode(x)
    assert_close(ours.double(), z, rtol=1e-4, atol=1e-5)
    assert_close(sae.decode(ours, x).double(), xhat, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("named", ["activation_fn_str", "activation_fn"])
def test_tanh_relu(write: Write, weights: Weights, sequences: Tensor, named: str) -> None:
    sae = SAELensAdapter.from_disk(write(**{named: "tanh-relu"}, architecture="standard"))
    z = before(sequences, weights).relu().tanh()
    agrees(sae, sequences, z, decoded(z, weights))
    assert Capability.ENCODER_DIRECTIONS not in sae.capabilities  # a tanh is not linear where it is active
    assert sae.fingerprint() != SAELensAdapter.from_disk(write()).fingerprint()


@pytest.mark.parametrize(
    "config",
    [
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}},
        {"activation_fn": "topk", "activation_fn_kwargs": {"k": 4}, "architecture": "topk"},
        {"activation_fn_str": "topk", "activation_fn_kwargs": {}, "k": 4},
        {"activation_fn_str": "topk", "activation_fn_kwargs": None, "k": 4},
        {"activation_fn_str": "topk", "k": 4, "architecture": "standard"},
        {"architecture": "topk", "activation_fn_str": "relu", "k": 4},
    ],
)
def test_topk_wherever_k_stands(write: Write, weights: Weights, sequences: Tensor, config: dict[str, Any]) -> None:
    sae = SAELensAdapter.from_disk(write(**config))
    z = largest(before(sequences, weights), 4)
    agrees(sae, sequences, z, decoded(z, weights))
    assert (sae.architecture, sae.sae.cfg.k) == ("topk", 4)


def test_a_scaling_factor_that_is_used(write: Write, weights: Weights, sequences: Tensor) -> None:
    factor = torch.linspace(0.5, 2, D_SAE)
    sae = SAELensAdapter.from_disk(write({"scaling_factor": factor}, finetuning_scaling_factor=True))
    z = before(sequences, weights).relu()
    agrees(sae, sequences, z, decoded(z * factor.double(), weights))


def test_a_scaling_factor_of_one_changes_nothing(write: Write) -> None:
    plain = SAELensAdapter.from_disk(write()).fingerprint()
    assert SAELensAdapter.from_disk(write({"scaling_factor": torch.ones(D_SAE)})).fingerprint() == plain


def test_zero_rows_of_a_rescaled_decoder(tmp_path: Path, weights: Weights, sequences: Tensor) -> None:
    weights["W_dec"][5] = 0
    config = sae_lens.TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=4, rescale_acts_by_decoder_norm=True)
    config.metadata.hook_name = SITE
    (tmp_path / "cfg.json").write_text(json.dumps(config.to_dict()))
    save_file(weights, tmp_path / "sae_weights.safetensors")
    sae = SAELensAdapter.from_disk(tmp_path)
    norms = weights["W_dec"].double().norm(dim=-1)
    z = largest(before(sequences, weights) * norms, 4)
    agrees(sae, sequences, z, decoded(z / norms.where(norms > 0, 1), weights))
    directions = sae.decoder_directions()
    assert bool(directions.isfinite().all())
    assert not directions[5].any()
    assert_close(directions.norm(dim=-1)[:5], torch.ones(5))


def test_bool_normalisation_of_old_files(write: Write) -> None:
    assert SAELensAdapter.from_disk(write(normalize_activations=False)).sae.cfg.normalize_activations == "none"
    with pytest.raises(SAELoadError, match="norm_scaling_factor=FACTOR"):
        SAELensAdapter.from_disk(write(normalize_activations=True))


def test_metadata_of_flat_files(write: Write) -> None:
    arguments = {"center_writing_weights": True}
    sae = SAELensAdapter.from_disk(write(model_from_pretrained_kwargs=arguments, seqpos_slice=[1, None]))
    assert sae.hook == HookSite.at(SITE)
    assert (sae.trained_on.model, sae.trained_on.context_size, sae.trained_on.prepend_bos) == ("tiny", 128, True)
    assert (sae.trained_on.positions, sae.trained_on.model_arguments) == ((1, None), arguments)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"activation_fn_str": "swish"}, "activation_fn='swish', which saebench does not know.*python:"),
        ({"activation_fn_str": ["relu"]}, r"activation_fn=\['relu'\], which saebench does not know"),
        (
            {"activation_fn_str": "tanh-relu", "architecture": "gated"},
            "architecture='gated' and activation_fn='tanh-relu'",
        ),
        ({"activation_fn_str": "topk", "activation_fn": "relu"}, "activation_fn_str='topk' and activation_fn='relu'"),
        ({"activation_fn": "topk", "activation_fn_kwargs": None}, "neither k nor activation_fn_kwargs says how many"),
        ({"activation_fn": "topk"}, 'add "k": NUMBER'),
        (
            {"activation_fn": "topk", "activation_fn_kwargs": [4]},
            r"activation_fn_kwargs=\[4\], which must be an object",
        ),
        ({"activation_fn": "topk", "activation_fn_kwargs": {"k": 4, "postact_fn": "gelu"}}, "postact_fn"),
        ({"activation_fn": "topk", "activation_fn_kwargs": {"k": 4}, "k": 5}, "k=5 and activation_fn_kwargs.k=4"),
        ({"activation_fn": "topk", "k": 33}, "k=33 and d_sae=32"),
        ({"activation_fn": "topk", "k": True}, "k=True, but it must be a whole number above 0"),
        ({"activation_fn": "topk", "k": -4}, "k=-4, but it must be a whole number above 0"),
        ({"k": 4}, "k=4, but also that the SAE is a ReLU SAE"),
        ({"finetuning_scaling_factor": "yes"}, "finetuning_scaling_factor='yes', but it must be true or false"),
        ({"d_sae": None}, "d_sae=None, but it must be a whole number above 0"),
        ({"normalize_activations": "batch_norm"}, "normalize_activations='batch_norm', but it must be one of none"),
        ({"hook_point": {"a": 1}}, "hook_name={'a': 1}, but it must be a printable text"),
        ({"hook_point": "\x1b[31m"}, r"hook_name='\\x1b\[31m', but it must be a printable text"),
        ({"metadata": []}, r"metadata=\[\], which must be an object"),
        ({"metadata": {"model_name": 7}}, "model_name=7, but it must be a printable text"),
        ({"context_size": "128"}, "context_size='128', but it must be a whole number"),
        ({"architecture": "no-such"}, "architecture='no-such', which the installed SAELens does not know"),
        ({"architecture": "batchtopk"}, "architecture='batchtopk', which SAELens uses only in training"),
    ],
)
def test_settings_that_cannot_be_run_faithfully(write: Write, config: dict[str, Any], message: str) -> None:
    with pytest.raises(SAELoadError, match=message):
        SAELensAdapter.from_disk(write(**config))


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({"scaling_factor": torch.full((D_SAE,), 2.0)}, {}, "does not say that it is used.*finetuning_scaling_factor"),
        (
            {"scaling_factor": torch.full((3,), 2.0)},
            {"finetuning_scaling_factor": True},
            "scaling_factor has the shape",
        ),
        (
            {"scaling_factor": torch.full((D_SAE,), float("nan"))},
            {"finetuning_scaling_factor": True},
            "scaling_factor holds NaN or Inf",
        ),
        ({"steps": torch.ones(1)}, {}, "holds steps, which an SAE of the architecture 'standard' has no use for"),
        ({"W_enc": torch.ones(D_IN, D_SAE, dtype=torch.int8)}, {}, "W_enc holds numbers of type int8, whose scale"),
        ({"b_enc": torch.ones(D_SAE, dtype=torch.bool)}, {}, "b_enc holds numbers of type bool"),
        ({"W_dec": torch.ones(D_SAE, D_IN, dtype=torch.complex64)}, {}, "W_dec holds numbers of type complex64"),
        ({"b_dec": torch.ones(D_IN, dtype=torch.int64)}, {}, "b_dec holds numbers of type int64"),
        ({"W_enc": torch.ones(D_IN, D_SAE).to(torch.float8_e4m3fn)}, {}, "W_enc holds numbers of type float8_e4m3fn"),
        ({"W_enc": torch.ones(D_SAE, D_IN)}, {}, r"W_enc has the shape \[32, 16\], but \[16, 32\] is needed"),
    ],
)
def test_weights_that_do_not_fit(write: Write, tensors: Weights, config: dict[str, Any], message: str) -> None:
    with pytest.raises(SAELoadError, match=message):
        SAELensAdapter.from_disk(write(tensors, **config))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_weights_of_other_types(
    write: Write, weights: Weights, sequences: Tensor, dtype: torch.dtype
) -> None:
    stored = {key: tensor.to(dtype) for key, tensor in weights.items()}
    sae = SAELensAdapter.from_disk(write(stored))
    z = before(sequences, stored).relu()
    agrees(sae, sequences, z, decoded(z, stored))
    assert sae.weights_dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize(
    ("threshold", "trained_as", "refused"),
    [
        (torch.full((D_SAE,), 0.1), "batchtopk", False),
        (torch.full((D_SAE,), -1.0), "batchtopk", True),
        (torch.zeros(D_SAE), "batchtopk", True),
        (torch.zeros(D_SAE), None, True),
        (torch.full((D_SAE,), -1.0), None, True),
        (torch.linspace(-1, 0, D_SAE), "batchtopk", True),
        (torch.linspace(-1, 1, D_SAE), "jumprelu", False),
    ],
)
def test_thresholds_that_were_never_estimated(
    tmp_path: Path, weights: Weights, threshold: Tensor, trained_as: str | None, refused: bool
) -> None:
    metadata = {"hook_name": SITE, "training_architecture": trained_as, "sae_lens_version": "6.54.12"}
    config = {"architecture": "jumprelu", "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "metadata": metadata}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    save_file({**weights, "threshold": threshold}, tmp_path / "sae_weights.safetensors")
    if not refused:
        assert SAELensAdapter.from_disk(tmp_path).architecture == (trained_as or "jumprelu")
        return
    with pytest.raises(SAELoadError, match=r"never estimated in training.*train it longer"):
        SAELensAdapter.from_disk(tmp_path)


def test_a_jumprelu_without_thresholds_is_refused(tmp_path: Path, weights: Weights) -> None:
    config = {"architecture": "jumprelu", "d_in": D_IN, "d_sae": D_SAE, "metadata": {"hook_name": SITE}}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    save_file(weights, tmp_path / "sae_weights.safetensors")
    with pytest.raises(SAELoadError, match="holds no threshold; it holds W_dec, W_enc, b_dec, b_enc"):
        SAELensAdapter.from_disk(tmp_path)


def test_releases_are_read_as_folders_are(
    write: Write, weights: Weights, sequences: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(activation_fn_str="tanh-relu")
    asked = []

    def download(repository: str, file: str, **_: object) -> str:
        asked.append((repository, file))
        return str(folder / Path(file).name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    sae = SAELensAdapter.from_release("gpt2-small-res-jb", "blocks.8.hook_resid_pre")
    z = before(sequences, weights).relu().tanh()
    agrees(sae, sequences, z, decoded(z, weights))
    # SAELens' directory says that the weights of this release's language model were centred.
    assert sae.trained_on.centred(SITE)
    assert {repository for repository, _ in asked} == {"jbloom/GPT2-Small-SAEs-Reformatted"}


def test_no_setting_of_the_shell_lets_a_pickle_run(lens: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    name, seen = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", []

    def convert(*_: object, **__: object) -> Any:
        seen.append(os.environ.get(name))
        return lens("topk")

    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", convert)
    SAELensAdapter.from_release("gemma-scope-2b-pt-res-canonical", "layer_12/width_16k/canonical")
    assert (seen, os.environ[name]) == ([None], "1")
