"""Cross-layer transcoders of crosslayer-coding (curt-tigges/crosslayer-coding, clt/models, 2025-07-03).

z_l = act(x_l W_enc,l + b_enc,l), where act is ReLU, or JumpReLU with a threshold that a pre-activation may equal. There
is a decoder for each pair of layers, for each layer that is read (``per_source``), or for each layer that is written
(``per_target``). The last two may move and scale active latents for each layer that is written. Each decoder that is
used adds its bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.files import read_json
from saebench.sae.affine.activations import Activation, JumpReLU, ReLU
from saebench.sae.protocol import HookSite
from saebench.sae.several.blocks import Blocks, CrossLayerTranscoder, Scaling, View
from saebench.sae.several.formats import Files
from saebench.sae.several.reading import Tensors, read

_DECODER = "decoder_module."
_STATS_BYTES = 2**26
_EPS = 1e-6


def load(files: Files, hook: HookSite) -> CrossLayerTranscoder:
    """Return the transcoder. Raises SAELoadError for files that cannot be used, and for what tokens do not decide."""
    tensors = read(files.weights[0], files.name, within="state_dict")
    layers, latents, width = (files.setting(key, int, 0) for key in ("num_layers", "num_features", "d_model"))
    if min(layers, latents, width) < 1:
        raise SAELoadError(f"{files.name}: its cfg.json must tell num_layers, num_features and d_model.")
    activation = _activation(files, tensors, layers, latents)
    encoders = {f"encoder_module.encoders.{layer}.weight": (latents, width) for layer in range(layers)}
    matrices = {key: tensors.get(key, *shape) for key, shape in encoders.items()}
    b_enc = [tensors.get(f"encoder_module.encoders.{layer}.bias_param", latents) for layer in range(layers)]
    decoders, b_dec = _decoders(files, tensors, matrices, layers, latents, width)
    blocks = Blocks(
        matrices,
        [View(key, transposed=True) for key in encoders],
        torch.stack(b_enc),
        decoders,
        b_dec,
        skips=_skips(files, tensors, matrices, layers, width),
        offset=_of_targets(tensors, "feature_offset", layers, latents),
        scale=_of_targets(tensors, "feature_scale", layers, latents),
    )
    return CrossLayerTranscoder(
        blocks,
        activation,
        _scaling(files, layers, width),
        name=files.name,
        architecture=f"clt-{'relu' if isinstance(activation, ReLU) else 'jumprelu'}",
        hook=hook,
        model_name=files.setting("model_name", str),
    )


def _activation(files: Files, tensors: Tensors, layers: int, latents: int) -> Activation:
    kind = files.setting("activation_fn", str, "jumprelu")
    if kind == "relu":
        return ReLU()
    if kind == "jumprelu":
        log = tensors.get("theta_manager.log_threshold", layers, latents)
        return JumpReLU(log.float().exp().flatten(), inclusive=True)
    raise SAELoadError(
        f"{files.name}: its activation function {kind!r:.60} ranks latents among all tokens of a batch, so its latents "
        "are not defined for single tokens; convert it with convert_batchtopk_to_jumprelu.py of crosslayer-coding."
    )


def _tying(files: Files) -> str:
    tying = files.setting("decoder_tying", str, "none")
    if tying not in ("none", "per_source", "per_target"):
        raise SAELoadError(f"{files.name}: its decoder_tying {tying!r:.60} is not known.")
    return str(tying)


def _decoders(
    files: Files, tensors: Tensors, matrices: dict[str, Tensor], layers: int, latents: int, width: int
) -> tuple[dict[tuple[int, int], View], Tensor]:
    """Add the decoders to ``matrices``; return where each pair of layers finds its own, and the sum of biases."""
    tying, decoders, b_dec = _tying(files), {}, torch.zeros(layers, width)
    for target in range(layers):
        for source in range(target + 1):
            key = {"none": f"{source}->{target}", "per_source": f"{source}", "per_target": f"{target}"}[tying]
            name = f"{_DECODER}decoders.{key}"
            matrices[f"{name}.weight"] = tensors.get(f"{name}.weight", width, latents)
            decoders[source, target] = View(f"{name}.weight", transposed=True)
            if tying != "per_target" or source == target:  # it decodes the sum over sources once
                b_dec[target] += tensors.get(f"{name}.bias_param", width).float()
    return decoders, b_dec


def _skips(
    files: Files, tensors: Tensors, matrices: dict[str, Tensor], layers: int, width: int
) -> dict[tuple[int, int], View]:
    """Add the skip connections to ``matrices``, and return which pairs of layers have one."""
    if not files.setting("skip_connection", bool, False):
        return {}
    untied, skips = _tying(files) == "none", {}
    for target in range(layers):
        for source in range(target + 1) if untied else (target,):
            key = f"{_DECODER}skip_weights.{f'{source}->{target}' if untied else target}"
            matrices[key] = tensors.get(key, width, width)
            skips[source, target] = View(key, transposed=True)
    return skips


def _of_targets(tensors: Tensors, what: str, layers: int, latents: int) -> Tensor | None:
    keys = [f"{_DECODER}{what}.{layer}" for layer in range(layers)]
    return torch.stack([tensors.get(key, latents) for key in keys]) if keys[0] in tensors else None


def _scaling(files: Files, layers: int, width: int) -> Scaling | None:
    kind = files.setting("normalization_method", str, "none")
    if kind in ("sqrt_d_model", "auto_sqrt_d_model", "estimated_mean_std_sqrt_d_model"):
        factor = torch.full((layers * width,), width**0.5)
        return Scaling(factor, 1 / factor)
    if kind == "none":
        return None
    if kind not in ("mean_std", "auto", "estimated_mean_std"):
        raise SAELoadError(f"{files.name}: its normalization_method {kind!r:.60} is not known.")
    file = files.weights[0].parent / "norm_stats.json"
    if not file.exists():
        raise SAELoadError(
            f"{files.name}: its training normalised activations with the means in norm_stats.json, which lies with the "
            f"activations; copy it to {file.parent}."
        )
    stats = read_json(file, "file of means", SAELoadError, _STATS_BYTES)
    named = [(side, what) for side in ("inputs", "targets") for what in ("mean", "std")]
    mean_in, std_in, mean_out, std_out = (_stat(stats, *key, layers, width, files.name) for key in named)
    return Scaling(1 / (std_in + _EPS), std_out + _EPS, mean_in, mean_out)


def _stat(stats: object, side: str, what: str, layers: int, width: int, name: str) -> Tensor:
    """Return means or standard deviations of all layers in a row, ``[layers * width]``."""
    rows = []
    for layer in range(layers):
        values: object = stats
        for key in (str(layer), side, what):
            values = values.get(key) if isinstance(values, dict) else None
        numbers = values if isinstance(values, list) else []
        if len(numbers) != width or not all(isinstance(number, int | float) for number in numbers):
            raise SAELoadError(f"{name}: norm_stats.json must hold {width} numbers under {layer}.{side}.{what}.")
        rows.append(torch.tensor(numbers, dtype=torch.float32))
    return torch.cat(rows)
