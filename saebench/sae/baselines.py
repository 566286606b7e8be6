"""Controls: baselines that an SAE must beat before its numbers mean anything (arXiv 2602.14111, 2605.18229).

Controls are fitted to calibration activations, never to the evaluated text. All of them are position-wise. Their
``control`` is True, so tables show them and rankings leave them out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saebench.capabilities import ORDINARY
from saebench.errors import SAELoadError
from saebench.sae.base import BaseAdapter, generator
from saebench.sae.protocol import SAE, Capability, HookSite
from saebench.sae.wrapped import WrappedSAE

DEFAULT_K = 32
DEFAULT_L0 = 32.0
DEFAULT_D_SAE = 2048
_CALIBRATION_ELEMENTS = 2**25  # tokens x latents in memory while a threshold is fitted (128 MB in float32)

_LINEAR = frozenset({Capability.LINEAR_DECODER, Capability.ENCODER_DIRECTIONS, Capability.POSITION_WISE})


class PCABaseline(BaseAdapter):
    """The ``k`` leading principal components, which give the best linear reconstruction of rank ``k``.

    ``d_sae`` is ``k`` and every latent is a signed coordinate, so L0 is ``k`` on every token. A positive and a negative
    latent for each component would only make it look sparse.
    """

    control = True
    mean: Tensor
    components: Tensor

    def __init__(self, activations: Tensor, *, name: str, hook: HookSite, k: int = DEFAULT_K) -> None:
        """Fit to ``activations[tokens, d_in]``, with a covariance in float64.

        Raises SAELoadError when ``k`` is too large.
        """
        tokens, d_in = _calibration_shape(activations, name)
        if not 1 <= k <= min(d_in, tokens - 1):
            raise SAELoadError(
                f"{name}: k={k} components cannot be fitted to {tokens} tokens of {d_in} dimensions; choose fewer."
            )
        super().__init__(name=name, architecture="pca", hook=hook, d_in=d_in, d_sae=k, capabilities=_LINEAR)
        mean, covariance = _moments(activations)
        components = torch.linalg.eigh(covariance).eigenvectors[:, -k:].flip(-1).T
        largest = components.gather(1, components.abs().argmax(1, keepdim=True))
        components = components * largest.sign()  # fixes the sign of eigenvectors, which is arbitrary
        self.register_buffer("mean", mean.float())
        self.register_buffer("components", components.float().contiguous())
        self.check_finite()

    def encode(self, x: Tensor) -> Tensor:
        return (x.float() - self.mean) @ self.components.T

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() @ self.components + self.mean

    def decoder_directions(self) -> Tensor:
        return self.components

    def encoder_directions(self) -> Tensor:
        return self.components


class NeuronBaseline(BaseAdapter):
    """The basis of the language model: ``z = x``, signed and dense, so the reconstruction is exact."""

    control = True
    ones: Tensor

    def __init__(self, d_in: int, *, name: str, hook: HookSite) -> None:
        super().__init__(name=name, architecture="neurons", hook=hook, d_in=d_in, d_sae=d_in, capabilities=_LINEAR)
        self.register_buffer("ones", torch.ones(d_in))

    def encode(self, x: Tensor) -> Tensor:
        return x.float()

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float()

    def decoder_directions(self) -> Tensor:
        return torch.diag(self.ones)

    def encoder_directions(self) -> Tensor:
        return torch.diag(self.ones)


class RandomBaseline(BaseAdapter):
    """A dictionary of random unit directions with a given L0.

    Pre-activations are ``(x - mean) @ directions.T``. All latents share one threshold, the ``1 - L0/d_sae`` quantile
    of all pre-activations on the calibration tokens (``random_l0_matched`` of arXiv 2605.18229). saebench adds one
    scalar gain of the decoder, fitted by least squares: otherwise a random overcomplete dictionary would reconstruct at
    an arbitrary scale and look worse than it is.
    """

    control = True
    mean: Tensor
    directions: Tensor
    threshold: Tensor
    gain: Tensor

    def __init__(
        self,
        activations: Tensor,
        *,
        name: str,
        hook: HookSite,
        seed: int,
        l0: float = DEFAULT_L0,
        d_sae: int = DEFAULT_D_SAE,
    ) -> None:
        """Fit mean, threshold and gain to ``activations[tokens, d_in]``.

        Raises SAELoadError for an L0 outside 0 to ``d_sae / 2``, and when no latent fires on the activations.
        """
        tokens, d_in = _calibration_shape(activations, name)
        if not 0 < l0 < d_sae / 2:
            raise SAELoadError(f"{name}: l0={l0:g} must lie between 0 and half of d_sae={d_sae}.")
        super().__init__(name=name, architecture="random", hook=hook, d_in=d_in, d_sae=d_sae, capabilities=ORDINARY)
        directions = torch.randn(d_sae, d_in, generator=generator(seed, "baseline:random")).to(activations.device)
        self.register_buffer("mean", _mean(activations).float())
        self.register_buffer("directions", directions / directions.norm(dim=-1, keepdim=True))
        self.register_buffer("threshold", torch.zeros((), device=activations.device))
        self.register_buffer("gain", torch.ones((), device=activations.device))
        sample = activations[:: -(-tokens * d_sae // _CALIBRATION_ELEMENTS)].float()
        before = (sample - self.mean) @ self.directions.T
        active = min(max(1, round(l0 * len(sample))), before.numel() - 1)
        self.threshold = before.flatten().kthvalue(before.numel() - active).values
        z = self._fire(before)
        unscaled = z @ self.directions
        power = unscaled.double().square().sum()
        if power == 0:
            raise SAELoadError(f"{name}: no latent fires on the calibration activations; are they all equal?")
        self.gain = (((sample - self.mean) * unscaled).double().sum() / power).float()
        self.check_finite()

    def encode(self, x: Tensor) -> Tensor:
        return self._fire((x.float() - self.mean) @ self.directions.T)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() @ self.decoder_directions() + self.mean

    def decoder_directions(self) -> Tensor:
        return self.directions * self.gain

    def encoder_directions(self) -> Tensor:
        return self.directions

    def _fire(self, before: Tensor) -> Tensor:
        return before.relu() * (before > self.threshold)


class PermutedDecoderBaseline(WrappedSAE):
    """Another SAE whose decoder rows are shuffled and whose encoder is unchanged (arXiv 2605.18229).

    Metrics of the encoder alone must not change; metrics of the decoder must collapse. The shuffle is one cycle through
    all latents, so no latent keeps its row. Instead of rows, it permutes the latents that the decoder gets, which has
    the same effect and is right for decoders that rescale each token, too.
    """

    control = True
    source: Tensor

    def __init__(self, inner: SAE, *, name: str, seed: int) -> None:
        super().__init__(inner, name=name, architecture="permuted-decoder")
        order = torch.randperm(inner.d_sae, generator=generator(seed, "baseline:permuted-decoder"))
        source = torch.empty_like(order)
        source[order] = order.roll(1)
        self.register_buffer("source", source)  # row i of the inner decoder gets latent source[i]

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return self.inner.decode(z[..., self.source], x)

    def decoder_directions(self) -> Tensor:
        return self.inner.decoder_directions()[self.source.argsort()]


def _calibration_shape(activations: Tensor, name: str) -> tuple[int, int]:
    if activations.ndim != 2 or len(activations) < 2 or not bool(torch.isfinite(activations).all()):
        raise SAELoadError(
            f"{name}: calibration needs finite activations [tokens, d_in] of at least two tokens, "
            f"not {list(activations.shape)}."
        )
    return activations.shape[0], activations.shape[1]


def _mean(activations: Tensor, rows: int = 4096) -> Tensor:
    """The mean ``[d_in]`` in float64, computed in blocks of rows."""
    return torch.stack([block.double().sum(0) for block in torch.split(activations, rows)]).sum(0) / len(activations)


def _moments(activations: Tensor, rows: int = 4096) -> tuple[Tensor, Tensor]:
    """The mean ``[d_in]`` and the scatter matrix ``[d_in, d_in]`` in float64, computed in blocks of rows."""
    mean = _mean(activations, rows)
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=activations.device)
    for block in torch.split(activations, rows):
        centred = block.double() - mean
        scatter += centred.T @ centred
    return mean, scatter
