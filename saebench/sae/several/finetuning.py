"""CrossCoder and BatchTopKCrossCoder of science-of-finetuning's dictionary_learning (dictionary.py, 2025-07-28).

With x' = (x - mean) g for each hook point l, f = relu(sum_l x'_l W_enc,l + b_enc). A BatchTopKCrossCoder keeps the
latents for which f c exceeds a threshold, where c is the code normalization, a norm of the decoder of each latent. The
reconstruction is (f W_dec,l + b_dec,l) / g + mean. The latents here are f, not f c, which the library reports.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.sae.affine.activations import Activation, JumpReLU, ReLU
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import HookSite
from saebench.sae.several.blocks import Blocks, DecoupledCrosscoder, Scaling, View
from saebench.sae.several.declared import encoder_layers
from saebench.sae.several.formats import Files
from saebench.sae.several.reading import Tensors, check_count, crosscoder_weights, read

_NORMALIZATIONS = ("", "CROSSCODER", "SAE", "MIXED", "NONE", "DECOUPLED")  # by code_normalization_id, which begins at 1
_EPS = 1e-8


def load(files: Files, hook: HookSite) -> BaseAdapter:
    """Return the crosscoder. Raises SAELoadError for files that cannot be used."""
    tensors = read(files.weights[0], files.name)
    if "encoder.weight" not in tensors:  # a model that torch.compile had wrapped
        tensors = Tensors(
            {str(key).split("_orig_mod.")[-1]: value for key, value in tensors.content.items()}, files.name
        )
    W_enc = tensors.get("encoder.weight", None, None, None)
    n_in, width, latents = W_enc.shape
    W_dec = tensors.get("decoder.weight", None, latents, width)
    n_out = len(W_dec)
    b_enc, b_dec = tensors.get("encoder.bias", latents), tensors.get("decoder.bias", n_out, width)
    check_count(hook, n_in, n_out, files.name)
    normalization = _normalization(tensors, files)
    decoupled = "threshold" in tensors and normalization == "DECOUPLED"
    scaling = _scaling(tensors, encoder_layers(files), n_in, n_out, width, twice=decoupled)
    common: dict[str, Any] = {"name": files.name, "hook": hook, "model_name": files.setting("model_name", str)}
    if decoupled:
        threshold = _threshold(tensors, n_out)[:, None] / _positive(W_dec.float().norm(dim=2))
        sides = {"encoder.weight": W_enc, "decoder.weight": W_dec}
        blocks = Blocks(
            sides,
            [View("encoder.weight", side) for side in range(n_in)],
            b_enc[None],
            {(side, side): View("decoder.weight", side) for side in range(n_out)},
            b_dec,
        )
        jump = JumpReLU(threshold.flatten())
        return DecoupledCrosscoder(blocks, jump, scaling, architecture="crosscoder-batchtopk-decoupled", **common)
    weights = crosscoder_weights(W_enc, b_enc, W_dec, b_dec, scaling, files.name)
    activation, kind = _activation(tensors, W_dec.float(), normalization, files)
    dtype = str(W_enc.dtype).removeprefix("torch.")
    return AffineSAE(weights, activation, architecture=f"crosscoder-{kind}", weights_dtype=dtype, **common)


def _activation(tensors: Tensors, W_dec: Tensor, normalization: str, files: Files) -> tuple[Activation, str]:
    if "threshold" not in tensors:
        return ReLU(), "relu"
    [threshold] = _threshold(tensors, 1)
    norms = W_dec.norm(dim=2)
    if normalization == "CROSSCODER":
        code = norms.sum(0)
    elif normalization == "SAE":
        code = norms.norm(dim=0)
    elif normalization == "MIXED":
        alphas = (files.setting(f"code_normalization_alpha_{part}", float, default) for part, default in _ALPHAS)
        code = sum(alpha * part for alpha, part in zip(alphas, (norms.norm(dim=0), norms.sum(0)), strict=True))
    else:
        code = torch.ones(W_dec.shape[1])
    return JumpReLU(threshold / _positive(code)), "batchtopk"


_ALPHAS = (("sae", 1.0), ("cc", 0.1))  # the weights of the two norms in MIXED, where the config file has none


def _normalization(tensors: Tensors, files: Files) -> str:
    """Return the name of the code normalization; old files do not hold it. Raises SAELoadError for an unknown one."""
    number = tensors.number("code_normalization_id")
    if number is not None and number in range(1, len(_NORMALIZATIONS)):
        return _NORMALIZATIONS[int(number)]
    named = files.setting("code_normalization", str, "CROSSCODER").upper()
    if number is not None or named not in _NORMALIZATIONS[1:]:
        raise SAELoadError(
            f"{files.name}: its code normalization {number if number is not None else named!r} is not known; known are "
            f"{', '.join(_NORMALIZATIONS[1:])}."
        )
    return str(named)


def _threshold(tensors: Tensors, n: int) -> Tensor:
    stored = tensors.content["threshold"]
    threshold = stored.float().flatten() if isinstance(stored, Tensor) else torch.empty(0)
    if len(threshold) != n:
        raise SAELoadError(f"{tensors.name}: its threshold must be {n} numbers, not {len(threshold)}.")
    if not bool((threshold > 0).all()):
        raise SAELoadError(
            f"{tensors.name}: its threshold was never estimated in training, so its latents are not defined for single "
            "tokens; train it longer, or estimate the threshold and store it."
        )
    return threshold


def _scaling(
    tensors: Tensors, layers: list[int] | None, n_in: int, n_out: int, width: int, *, twice: bool
) -> Scaling | None:
    """Return what the training did to activations; None for a model without a normalizer, whose mean is NaN.

    ``twice`` says that the encoder normalises what is normalised already, as that of a decoupled BatchTopKCrossCoder
    does in training and afterwards.
    """
    if "activation_mean" not in tensors or "activation_std" not in tensors:
        return None
    mean = tensors.get("activation_mean", None, width).float()
    std = tensors.get("activation_std", len(mean), width).float()
    if bool(mean.isnan().all()) and bool(std.isnan().all()):
        return None
    if not bool(mean.isfinite().all()) or not bool(std.isfinite().all()):
        raise SAELoadError(
            f"{tensors.name}: activation_mean or activation_std holds NaN or Inf in part; the weights are damaged, "
            "fetch or train them again."
        )
    scale = tensors.get("activation_global_scale", len(mean)).float()[:, None].expand(-1, width)
    read_mean, read_scale = (mean, scale) if layers is None else (mean[layers], scale[layers])
    if (len(read_mean), len(mean)) != (n_in, n_out):
        raise SAELoadError(
            f"{tensors.name}: it has means of activations at {len(mean)} hook points, and it reads {n_in} and writes "
            f"{n_out}."
        )
    if twice:
        read_mean, read_scale = read_mean + read_mean / read_scale, read_scale.square()
    return Scaling(read_scale.flatten(), 1 / (scale + _EPS).flatten(), read_mean.flatten(), mean.flatten())


def _positive(norms: Tensor) -> Tensor:
    """Return norms by which a threshold can be divided. A latent without a decoder direction is never active."""
    return torch.where(norms > 0, norms, torch.full_like(norms, torch.finfo(torch.float32).tiny))
