"""Crosscoders of Neel Nanda's and Connor Kissane's code (ckkissane/crosscoder-model-diff-replication, crosscoder.py).

z = relu(sum_m x_m W_enc,m + b_enc) and xhat_m = z W_dec,m + b_dec,m. The training scaled the activations of each model
to the mean norm sqrt(d), by factors that the files do not hold.
"""

from __future__ import annotations

import torch

from saebench.errors import SAELoadError
from saebench.sae.affine.activations import ReLU
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.protocol import HookSite
from saebench.sae.several.blocks import Scaling
from saebench.sae.several.formats import Files
from saebench.sae.several.reading import check_count, crosscoder_weights, read


def load(files: Files, hook: HookSite) -> AffineSAE:
    """Return the crosscoder. Raises SAELoadError for files that cannot be used, and without the factors."""
    tensors = read(files.weights[0], files.name)
    W_enc = tensors.get("W_enc", None, None, None)
    sites, width, latents = W_enc.shape
    W_dec = tensors.get("W_dec", latents, sites, width).transpose(0, 1)
    b_enc, b_dec = tensors.get("b_enc", latents), tensors.get("b_dec", sites, width)
    check_count(hook, sites, sites, files.name)
    factors = files.options.get("norm_scaling_factor")
    if factors is None or len(factors) not in (1, sites):
        raise SAELoadError(
            f"{files.name}: its training scaled the activations at each of its {sites} hook points by a factor, which "
            "the files do not hold; add ?norm_scaling_factor=FACTOR+FACTOR, in order, or ?norm_scaling_factor=1 if the "
            "factors are folded into the weights."
        )
    factor = torch.tensor(factors).expand(sites).repeat_interleave(width)
    return AffineSAE(
        crosscoder_weights(W_enc, b_enc, W_dec, b_dec, Scaling(factor, 1 / factor), files.name),
        ReLU(),
        name=files.name,
        architecture="crosscoder-relu",
        hook=hook,
        model_name=files.setting("model_name", str),
        weights_dtype=str(W_enc.dtype).removeprefix("torch."),
    )
