"""Crosscoders and cross-layer transcoders of lm-saes and llamascopium (2.0.0b34: models/crosscoder.py, models/clt.py).

Activations at a hook point are multiplied by sqrt(d) / norm, where the file holds their mean norm. The activation
function works on the pre-activations times a norm of the decoder of each latent. A crosscoder has one such norm for
each hook point, so that a latent may be active for some of them only, unless the function is ReLU. In a cross-layer
transcoder it is the norm of all that a latent writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.sae.affine.activations import Activation, InDecoderNorms, ReLU, TopK
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import HookSite
from saebench.sae.several.activations import GroupTopK, Jump
from saebench.sae.several.blocks import Blocks, CrossLayerTranscoder, DecoupledCrosscoder, Scaling, View
from saebench.sae.several.formats import Files, site_list
from saebench.sae.several.reading import Tensors, check_count, crosscoder_weights, read

_LOG_THRESHOLD = "activation_function.log_jumprelu_threshold"


def load(files: Files, hook: HookSite) -> BaseAdapter:
    """Return the SAE. Raises SAELoadError for files that cannot be used, and for what tokens alone do not decide."""
    tensors = read(files.weights[0], files.name, within="sae")
    return (
        _crosscoder(files, tensors, hook)
        if files.config.get("sae_type") == "crosscoder"
        else _clt(files, tensors, hook)
    )


def _crosscoder(files: Files, tensors: Tensors, hook: HookSite) -> BaseAdapter:
    W_enc = tensors.get("W_E", None, None, None)
    n, width, latents = W_enc.shape
    b_enc = tensors.get("b_E", n, latents).float().sum(0)
    W_dec, b_dec = tensors.get("W_D", n, latents, width), tensors.get("b_D", n, width)
    check_count(hook, n, n, files.name)
    trained_at = site_list(files, "hook_points") or ()
    scaling = _scaling(files, tensors, trained_at, trained_at, width)
    kind = _kind(files)
    common: dict[str, Any] = {"name": files.name, "hook": hook, "architecture": f"crosscoder-{kind}"}
    if kind == "relu":
        return AffineSAE(crosscoder_weights(W_enc, b_enc, W_dec, b_dec, scaling, files.name), ReLU(), **common)
    threshold = tensors.get(_LOG_THRESHOLD, latents).float().exp().repeat(n) if kind == "jumprelu" else None
    norms = W_dec.float().norm(dim=-1).flatten()
    activation = InDecoderNorms(_activation(files, kind, threshold, n), norms)
    sides = range(n)
    blocks = Blocks(
        {"W_E": W_enc, "W_D": W_dec},
        [View("W_E", side) for side in sides],
        b_enc[None],
        {(side, side): View("W_D", side) for side in sides},
        b_dec,
    )
    return DecoupledCrosscoder(blocks, activation, scaling, **common)


def _clt(files: Files, tensors: Tensors, hook: HookSite) -> BaseAdapter:
    W_enc = tensors.get("W_E", None, None, None)
    layers, width, latents = W_enc.shape
    decoders = {f"W_D.{to}": tensors.get(f"W_D.{to}", to + 1, latents, None) for to in range(layers)}
    width_out = decoders["W_D.0"].shape[-1]
    b_dec = torch.stack([tensors.get(f"b_D.{to}", width_out) for to in range(layers)])
    kind = _kind(files)
    threshold = tensors.get(_LOG_THRESHOLD, layers, latents).float().exp().flatten() if kind == "jumprelu" else None
    activation = _activation(files, kind, threshold, layers)
    if files.setting("sparsity_include_decoder_norm", bool, True):
        activation = InDecoderNorms(activation, _norms(list(decoders.values())).flatten())
    blocks = Blocks(
        {"W_E": W_enc, **decoders},
        [View("W_E", layer) for layer in range(layers)],
        tensors.get("b_E", layers, latents),
        {(source, to): View(f"W_D.{to}", source) for to in range(layers) for source in range(to + 1)},
        b_dec,
    )
    sites_in, sites_out = (site_list(files, f"hook_points_{side}") or () for side in ("in", "out"))
    scaling = _scaling(files, tensors, sites_in, sites_out, width)
    return CrossLayerTranscoder(blocks, activation, scaling, name=files.name, architecture=f"clt-{kind}", hook=hook)


def _norms(decoders: Sequence[Tensor]) -> Tensor:
    """Return the norm of everything that a latent writes, ``[layers, latents]``, from the decoders to each layer."""
    squares = torch.zeros(decoders[-1].shape[:2])
    for decoder in decoders:
        for source, matrix in enumerate(decoder):  # one by one, so that no large copy is made
            squares[source] += matrix.float().square().sum(-1)
    return squares.sqrt()


def _kind(files: Files) -> str:
    kind = str(files.setting("act_fn", str, "relu")).lower()
    if kind in ("batchtopk", "batchlayertopk"):
        raise SAELoadError(
            f"{files.name}: its activation function {kind} selects latents among all tokens of a batch, so its latents "
            "are not defined for single tokens; convert it to JumpReLU with llamascopium."
        )
    if kind not in ("relu", "jumprelu", "topk", "layertopk"):
        raise SAELoadError(f"{files.name}: its activation function {kind!r:.60} is not known.")
    return kind


def _activation(files: Files, kind: str, threshold: Tensor | None, groups: int) -> Activation:
    if threshold is not None:
        return Jump(threshold)
    if kind == "relu":
        return ReLU()
    k = files.setting("top_k", int, 50)
    return GroupTopK(k, groups) if kind == "topk" else TopK(k)


def _scaling(
    files: Files, tensors: Tensors, sites_in: Sequence[str], sites_out: Sequence[str], width: int
) -> Scaling | None:
    kind = files.setting("norm_activation", str, "dataset-wise")
    if kind == "inference":
        return None
    if kind != "dataset-wise":
        raise SAELoadError(
            f"{files.name}: its training scaled activations {kind} (norm_activation), which saebench cannot undo for "
            "several hook points."
        )

    def factors(sites: Sequence[str]) -> Tensor:
        numbers = []
        for site in sites:
            norm = tensors.number(f"dataset_average_activation_norm.{site}")
            if norm is None or not 0 < norm < math.inf:
                raise SAELoadError(
                    f"{files.name}: the mean norm of activations at {site} is not stored (it is {norm})."
                )
            numbers.append(math.sqrt(width) / norm)
        return torch.tensor(numbers).repeat_interleave(width)

    return Scaling(factors(sites_in), 1 / factors(sites_out))
