"""Changes that undo one mistake of loading each.

Some change inputs and outputs, which needs no weights, and the others change settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from saebench.diagnosis.parts import Parts
from saebench.sae.affine.activations import JumpReLU, ReLU, TopK
from saebench.sae.affine.normalisation import LayerNorm, Normalisation, NormRescale
from saebench.sae.protocol import SAE

# From activations [..., d_in] to latents [..., d_sae] and the reconstruction [..., d_out].
Reconstruct = Callable[[Tensor], tuple[Tensor, Tensor]]
_LATENTS = 2**26  # the most latents that a threshold is estimated from
_SAME = 1e-3  # the relative difference below which two settings are the same


# ---------------------------------------------------------------- without weights


def as_loaded(sae: SAE) -> Reconstruct:
    """The SAE itself."""

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        z = sae.encode(x)
        return z, sae.decode(z, x)

    return reconstruct


def scaled(inner: Reconstruct, factor: float, factor_out: float | None = None) -> Reconstruct:
    """Give the SAE the input times a factor, and divide its reconstruction by it, or by a factor of its own."""

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        z, xhat = inner(x * factor)
        return z, xhat / (factor if factor_out is None else factor_out)

    return reconstruct


def rescaled(inner: Reconstruct, factor: float) -> Reconstruct:
    """Multiply the reconstruction by a factor."""

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        z, xhat = inner(x)
        return z, xhat * factor

    return reconstruct


def normalised(inner: Reconstruct, normalisation: Normalisation) -> Reconstruct:
    """Normalise each token before the encoder, and undo it after the decoder."""

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        z, xhat = inner(normalisation.apply(x))
        return z, normalisation.undo(xhat, x)

    return reconstruct


def layer_normed(inner: Reconstruct) -> Reconstruct:
    """Give the SAE each token with mean 0 and standard deviation 1."""
    return normalised(inner, LayerNorm())


def of_constant_norm(inner: Reconstruct) -> Reconstruct:
    """Give the SAE each token with the norm sqrt(d)."""
    return normalised(inner, NormRescale())


def centred(inner: Reconstruct) -> Reconstruct:
    """Give the SAE each token without its mean over the dimensions, and add the mean to the reconstruction."""

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(-1, keepdim=True)
        z, xhat = inner(x - mean)
        return z, xhat + mean

    return reconstruct


def shifted(inner: Reconstruct, bias: Float[Tensor, " d_in"]) -> Reconstruct:
    """Subtract a vector from the input of the encoder."""

    def reconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
        return inner(x - bias)

    return reconstruct


# ---------------------------------------------------------------- with weights


def in_norm_units(parts: Parts) -> Parts | None:
    """Let the activation function work on ``p * ||W_dec||``. None if it does so already, or if that is the same."""
    if parts.norm_units or _unit(parts.norms) or isinstance(parts.activation, ReLU):
        return None
    return replace(parts, norm_units=True)


def in_raw_units(parts: Parts) -> Parts | None:
    """Let the activation function work on ``p``. None if it does so already, or if that is the same."""
    if not parts.norm_units or _unit(parts.norms):
        return None
    return replace(parts, norm_units=False)


def unit_rows(parts: Parts) -> Parts | None:
    """Make the rows of the decoder unit vectors and leave the latents as they are. None if they are so already."""
    if _unit(parts.norms):
        return None
    return replace(parts, norm_units=False).with_weights(W_dec=parts.weights.W_dec / parts.norms[:, None])


def pre_bias_subtracted(parts: Parts) -> Parts | None:
    """Subtract the decoder's bias before the encoder. None if a bias is subtracted already, or if there is none."""
    weights = parts.weights
    if weights.pre_bias is not None or weights.d_in != weights.d_out or not bool(weights.b_dec.any()):
        return None
    return parts.with_weights(pre_bias=weights.b_dec)


def pre_bias_left_out(parts: Parts) -> Parts | None:
    """Subtract nothing before the encoder. None if nothing is subtracted."""
    pre_bias = parts.weights.pre_bias
    return None if pre_bias is None or not bool(pre_bias.any()) else parts.with_weights(pre_bias=None)


def encoder_transposed(parts: Parts) -> Parts:
    """Read the encoder as the transpose of what was read: of a square matrix, or of one that was only reshaped."""
    weights = parts.weights
    return parts.with_weights(W_enc=weights.W_enc.reshape(weights.d_sae, weights.d_in).T)


def decoder_transposed(parts: Parts) -> Parts:
    """Read the decoder as the transpose of what was read, as `encoder_transposed` does."""
    weights = parts.weights
    return parts.with_weights(W_dec=weights.W_dec.reshape(weights.d_out, weights.d_sae).T)


def both_transposed(parts: Parts) -> Parts:
    """Read both matrices as the transposes of what was read."""
    return decoder_transposed(encoder_transposed(parts))


def tied_encoder(parts: Parts) -> Parts | None:
    """Take the transpose of the decoder as the encoder. None where widths differ, or where it is so already."""
    weights = parts.weights
    if weights.d_in != weights.d_out or _close(weights.W_enc, weights.W_dec.T):
        return None
    return parts.with_weights(W_enc=weights.W_dec.T)


def tied_decoder(parts: Parts) -> Parts | None:
    """Take the transpose of the encoder as the decoder. None where widths differ, or where it is so already."""
    weights = parts.weights
    if weights.d_in != weights.d_out or _close(weights.W_enc, weights.W_dec.T):
        return None
    return parts.with_weights(W_dec=weights.W_enc.T)


def with_k(parts: Parts, k: int) -> Parts | None:
    """Keep the k largest latents of each token. None if that many are kept already, or if there are not so many."""
    activation = parts.activation
    if not 1 <= k <= parts.weights.d_sae or (isinstance(activation, TopK) and activation.k == k):
        return None
    kind = type(activation) if isinstance(activation, TopK) else TopK
    return replace(parts, activation=kind(k))


def with_threshold(parts: Parts, threshold: Tensor) -> Parts:
    """Let only latents above a threshold pass."""
    return replace(parts, activation=JumpReLU(threshold))


def without_selection(parts: Parts) -> Parts | None:
    """Let every positive latent pass. None if every one does already."""
    return None if isinstance(parts.activation, ReLU) else replace(parts, activation=ReLU())


def threshold_for(parts: Parts, x: Float[Tensor, "tokens d_in"], l0: float) -> Tensor | None:
    """Return the one threshold with which ``l0`` latents of each token of ``x`` pass on average.

    None where it is not above 0, because so many latents are not positive. Of a wide SAE, some tokens are left out.
    """
    x = x[:: 1 + len(x) * parts.weights.d_sae // _LATENTS]
    p = replace(parts, activation=ReLU()).sae().encode(x)
    wanted = round(l0 * len(x))
    if not 1 <= wanted < p.numel():
        return None
    threshold = p.flatten().topk(wanted).values[-1]
    return threshold if float(threshold) > 0 else None


def _unit(norms: Tensor) -> bool:
    return bool((norms - 1).abs().max() < 10 * _SAME)


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).norm() <= _SAME * b.norm())
