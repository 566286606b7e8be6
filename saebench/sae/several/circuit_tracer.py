"""Cross-layer transcoders for circuit-tracer (0.5.0, transcoder/cross_layer_transcoder.py).

z_l = act(x_l W_enc,l + b_enc,l), where act is JumpReLU if the files hold thresholds and else ReLU, and what is written
at layer t is the sum of z_l W_dec,l[:, t - l] over the layers l up to t, plus b_dec,t.
"""

from __future__ import annotations

import torch

from saebench.sae.affine.activations import Activation, ReLU
from saebench.sae.protocol import HookSite
from saebench.sae.several.activations import Jump
from saebench.sae.several.blocks import Blocks, CrossLayerTranscoder, View
from saebench.sae.several.formats import Files
from saebench.sae.several.reading import mapped


def load(files: Files, hook: HookSite) -> CrossLayerTranscoder:
    """Return the transcoder, with its matrices mapped into memory. Raises SAELoadError for files that do not fit."""
    tensors = mapped(files.weights, files.name)
    layers = range(len(files.weights) // 2)
    latents, width = tensors.get("W_enc_0", None, None).shape
    matrices = {f"W_enc_{layer}": tensors.get(f"W_enc_{layer}", latents, width) for layer in layers}
    width_out = tensors.get("b_dec_0", None).shape[0]
    for layer in layers:
        matrices[f"W_dec_{layer}"] = tensors.get(f"W_dec_{layer}", latents, len(layers) - layer, width_out)
    activation: Activation = ReLU()
    if "threshold_0" in tensors:
        activation = Jump(torch.cat([tensors.get(f"threshold_{layer}", latents).float() for layer in layers]))
    blocks = Blocks(
        matrices,
        [View(f"W_enc_{layer}", transposed=True) for layer in layers],
        torch.stack([tensors.get(f"b_enc_{layer}", latents) for layer in layers]),
        {(layer, layer): View(f"W_dec_{layer}") for layer in layers},
        torch.stack([tensors.get(f"b_dec_{layer}", width_out) for layer in layers]),
    )
    return CrossLayerTranscoder(
        blocks,
        activation,
        name=files.name,
        architecture=f"clt-{'relu' if isinstance(activation, ReLU) else 'jumprelu'}",
        hook=hook,
        model_name=files.setting("model_name", str),
    )
