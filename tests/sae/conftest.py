"""Tiny SAELens SAEs of every architecture, with random weights, saved as SAELens saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sae_lens
import torch
from sae_lens.saes.transcoder import (
    JumpReLUSkipTranscoder,
    JumpReLUSkipTranscoderConfig,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    SkipTranscoder,
    SkipTranscoderConfig,
    Transcoder,
    TranscoderConfig,
)

D_IN, D_SAE, D_OUT = 16, 32, 12
SITE, SITE_OUT = "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"
_TEMPORAL = {"n_heads": 2, "bottleneck_factor": 4, "kval_topk": 5}
_WRITES = {"d_out": D_OUT, "apply_b_dec_to_input": False}

CASES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
    "standard-layer_norm": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {"normalize_activations": "layer_norm"}),
    "standard-uncentred": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {"apply_b_dec_to_input": False}),
    "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {}),
    "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": 5}),
    "topk-rescaled": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": 5, "rescale_acts_by_decoder_norm": True}),
    "topk-norm_rescale": (
        sae_lens.TopKSAE,
        sae_lens.TopKSAEConfig,
        {"k": 5, "normalize_activations": "constant_norm_rescale"},
    ),
    "abstopk": (sae_lens.AbsTopKSAE, sae_lens.AbsTopKSAEConfig, {"k": 5}),
    "abstopk-rescaled": (
        sae_lens.AbsTopKSAE,
        sae_lens.AbsTopKSAEConfig,
        {"k": 5, "rescale_acts_by_decoder_norm": True},
    ),
    "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
    "matching_pursuit": (sae_lens.MatchingPursuitSAE, sae_lens.MatchingPursuitSAEConfig, {"max_iterations": 4}),
    "temporal": (sae_lens.TemporalSAE, sae_lens.TemporalSAEConfig, _TEMPORAL),
    "temporal-scaled": (
        sae_lens.TemporalSAE,
        sae_lens.TemporalSAEConfig,
        {
            **_TEMPORAL,
            "tied_weights": False,
            "normalize_activations": "constant_scalar_rescale",
            "activation_normalization_factor": 0.3,
        },
    ),
    "temporal-layer_norm": (
        sae_lens.TemporalSAE,
        sae_lens.TemporalSAEConfig,
        {**_TEMPORAL, "normalize_activations": "layer_norm"},
    ),
    "transcoder": (Transcoder, TranscoderConfig, _WRITES),
    "transcoder-layer_norm": (Transcoder, TranscoderConfig, {**_WRITES, "normalize_activations": "layer_norm"}),
    "skip_transcoder": (SkipTranscoder, SkipTranscoderConfig, _WRITES),
    "jumprelu_transcoder": (JumpReLUTranscoder, JumpReLUTranscoderConfig, _WRITES),
    "jumprelu_skip_transcoder": (JumpReLUSkipTranscoder, JumpReLUSkipTranscoderConfig, _WRITES),
}


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter random; thresholds positive; matching pursuit's rows of unit norm."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.4)
            if name == "threshold":
                parameter.abs_()
        if isinstance(module, sae_lens.MatchingPursuitSAE):
            module.W_dec /= module.W_dec.norm(dim=-1, keepdim=True)


def build(case: str, **changes: Any) -> Any:
    kind, config, options = CASES[case]
    metadata = {"hook_name": SITE, "model_name": "tiny", **changes.pop("metadata", {})}
    if "d_out" in options:
        metadata = {"hook_name_out": SITE_OUT, **metadata}
    options = {**options, **changes}
    sae = kind(config(d_in=D_IN, d_sae=D_SAE, metadata=sae_lens.saes.sae.SAEMetadata(**metadata), **options))
    randomise(sae)
    return sae


@pytest.fixture
def lens() -> Callable[..., Any]:
    """``lens(case, **config)``: a SAELens SAE."""
    return build


@pytest.fixture
def lens_folder(tmp_path: Path) -> Callable[..., Path]:
    """``lens_folder(case, **config)``: its folder."""

    def save(case: str, **changes: Any) -> Path:
        folder = tmp_path / case
        build(case, **changes).save_model(folder)
        return folder

    return save


@pytest.fixture(params=list(CASES))
def every_folder(request: pytest.FixtureRequest, lens_folder: Callable[..., Path]) -> Path:
    """The folder of each architecture and normalisation in turn."""
    return lens_folder(request.param)


@pytest.fixture
def sequences() -> torch.Tensor:
    return torch.randn(3, 7, D_IN, generator=torch.Generator().manual_seed(5)) * 2 + 0.5
