"""Cross-layer transcoders of Gemma Scope 2, as circuit-tracer 0.5.0 reads them (load_gemma_scope_2_clt).

There is one file for each layer l, with z_l = JumpReLU(x_l w_enc + b_enc) and a decoder to all layers, of which those
from l on are used. An affine skip connection leads from the input of a layer to its output.
"""

from __future__ import annotations

import torch

from saebench.sae.protocol import HookSite
from saebench.sae.several.activations import Jump
from saebench.sae.several.blocks import Blocks, CrossLayerTranscoder, View
from saebench.sae.several.formats import Files
from saebench.sae.several.reading import mapped

_SKIP = "affine_skip_connection"


def load(files: Files, hook: HookSite) -> CrossLayerTranscoder:
    """Return the transcoder, with its matrices mapped into memory. Raises SAELoadError for files that do not fit."""
    tensors = mapped(files.weights, files.name, prefix=True)
    layers = range(len(files.weights))
    width, latents = tensors.get("0.w_enc", None, None).shape
    width_out = tensors.get("0.b_dec", None).shape[0]
    matrices = {f"{layer}.w_enc": tensors.get(f"{layer}.w_enc", width, latents) for layer in layers}
    for layer in layers:
        matrices[f"{layer}.w_dec"] = tensors.get(f"{layer}.w_dec", latents, len(layers), width_out)
    with_skip = [layer for layer in layers if f"{layer}.{_SKIP}" in tensors]
    matrices |= {f"{layer}.{_SKIP}": tensors.get(f"{layer}.{_SKIP}", width, width_out) for layer in with_skip}
    blocks = Blocks(
        matrices,
        [View(f"{layer}.w_enc") for layer in layers],
        torch.stack([tensors.get(f"{layer}.b_enc", latents) for layer in layers]),
        {(layer, layer): View(f"{layer}.w_dec", columns_left_out=layer * width_out) for layer in layers},
        torch.stack([tensors.get(f"{layer}.b_dec", width_out) for layer in layers]),
        skips={(layer, layer): View(f"{layer}.{_SKIP}") for layer in with_skip},
    )
    threshold = torch.cat([tensors.get(f"{layer}.threshold", latents).float() for layer in layers])
    return CrossLayerTranscoder(
        blocks,
        Jump(threshold),
        name=files.name,
        architecture="clt-jumprelu",
        hook=hook,
        model_name=files.setting("model_name", str),
    )
