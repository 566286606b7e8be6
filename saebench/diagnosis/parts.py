"""An affine SAE taken apart, so that single settings of it can be changed.

This is possible for SAEs of `saebench.sae.affine` and for most of those that SAELens runs. For all others, a diagnosis
has only the variants that need no weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from saebench.sae.affine.activations import AbsTopK, Activation, Gated, JumpReLU, ReLU, TopK
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.affine.normalisation import LayerNorm, Normalisation, NormRescale
from saebench.sae.affine.weights import Weights
from saebench.sae.hook import HookSite
from saebench.sae.protocol import SAE

_TOLERANCE = 1e-3  # of the norm of all reconstructions


@dataclass(frozen=True)
class Parts:
    """The settings of an affine SAE.

    Attributes:
        weights: The weights as the file holds them.
        activation: The activation function.
        normalisation: What is done to each token before the encoder, or None.
        norm_units: Whether the activation function works on ``p * ||W_dec||``.
    """

    weights: Weights
    activation: Activation
    normalisation: Normalisation | None = None
    norm_units: bool = False

    def sae(self) -> AffineSAE:
        """Return an SAE with these settings. Its hook and its name say nothing."""
        weights = self.weights.in_decoder_norms() if self.norm_units else self.weights
        hook = HookSite("blocks.0.hook_resid_mid", "blocks.0.hook_mlp_out")  # a transcoder may have two widths
        return AffineSAE(
            weights,
            self.activation,
            name="variant",
            architecture="variant",
            hook=hook,
            normalisation=self.normalisation,
        )

    def with_weights(self, **tensors: Tensor | None) -> Parts:
        """Return these settings with other tensors."""
        return replace(self, weights=replace(self.weights, **tensors))  # type: ignore[arg-type]

    @property
    def norms(self) -> Tensor:
        """The norms of the decoder's rows, ``[d_sae]``, with 1 in place of 0."""
        norms = self.weights.W_dec.norm(dim=-1)
        return norms.where(norms > 0, 1)


def parts_of(sae: SAE, x: Tensor) -> Parts | None:
    """Return the settings of an SAE; None if it is not affine, or of a class that is not known here.

    Args:
        sae: The SAE.
        x: Activations ``[tokens, d_in]``, on which the settings must give what the SAE gives.
    """
    parts = _of_affine(sae) if isinstance(sae, AffineSAE) else _of_sae_lens(sae)
    if parts is None:
        return None
    expected, rebuilt = sae.decode(sae.encode(x), x), parts.sae()
    gap = (rebuilt.decode(rebuilt.encode(x), x) - expected).norm()
    return parts if bool(gap <= _TOLERANCE * expected.norm()) else None


def _of_affine(sae: AffineSAE) -> Parts:
    weights = Weights(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, sae.pre_bias, sae.W_skip)
    return Parts(weights, sae.activation, sae.normalisation)


def _of_sae_lens(sae: SAE) -> Parts | None:
    from saebench.sae.sae_lens_adapter import SAELensAdapter

    if not isinstance(sae, SAELensAdapter):
        return None
    lens: Any = sae.sae
    config, kind = lens.cfg, lens.cfg.architecture()
    transcoder = "transcoder" in kind
    tensors = {key: tensor.detach() for key, tensor in lens.state_dict().items()}
    if not {"W_enc", "W_dec", "b_dec"} <= tensors.keys():
        return None
    pre_bias = tensors["b_dec"] if config.apply_b_dec_to_input and not transcoder else None
    skip = tensors["W_skip"].T if "W_skip" in tensors else None
    b_enc = tensors.get("b_enc", torch.zeros(sae.d_sae))
    weights = Weights(tensors["W_enc"], b_enc, tensors["W_dec"], tensors["b_dec"], pre_bias, skip)
    activation: Activation | None = None
    if kind in ("topk", "abstopk"):
        activation = (TopK if kind == "topk" else AbsTopK)(config.k)
    elif "threshold" in tensors:
        activation = JumpReLU(tensors["threshold"])
    elif kind == "gated":
        weights, activation = weights.gated(tensors["r_mag"], tensors["b_gate"], tensors["b_mag"])
    elif kind in ("standard", "transcoder", "skip_transcoder"):
        activation = ReLU()
    if activation is None:
        return None
    normalisation: Normalisation | None = None
    if config.normalize_activations == "layer_norm":
        normalisation = LayerNorm(undone=not transcoder)
    elif config.normalize_activations == "constant_norm_rescale":
        normalisation = NormRescale()
    return Parts(weights, activation, normalisation, bool(getattr(config, "rescale_acts_by_decoder_norm", False)))


def selects_k(activation: Activation) -> bool:
    """Whether the activation function keeps a fixed number of latents."""
    return isinstance(activation, TopK)


def is_scale_free(activation: Activation) -> bool:
    """Whether the activation function commutes with positive factors of single latents, as ReLU does."""
    return isinstance(activation, ReLU)


def is_gated(activation: Activation) -> bool:
    """Whether the activation function is that of a gated SAE, with biases of its own."""
    return isinstance(activation, Gated)
