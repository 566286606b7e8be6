"""Adversaries: degenerate SAEs of which a good metric must not think well (arXiv 2602.14111, 2605.18229).

Nobody would want to use one of these, so a metric that ranks one of them above every trained SAE can be gamed. Those
that wrap another SAE either compute the same function, so that a metric which moves depends on how latents are written
down, or keep one half of it and break the other. All are position-wise if what they wrap is, and ``control`` is True.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saebench.capabilities import ORDINARY
from saebench.errors import SAELoadError
from saebench.sae.base import BaseAdapter, generator
from saebench.sae.protocol import SAE, Capability, HookSite, SparseCodes
from saebench.sae.wrapped import WrappedSAE

DEFAULT_D_SAE = 2048
AMPLIFIED = 30.0
_RESCALED = 10.0  # latents are multiplied by factors between its inverse and itself
_BLOCK = 2**24  # distances to prototypes in memory at a time


class Mirrored(BaseAdapter):
    """Two latents for each direction of an orthonormal basis, one for each sign: exact, dense, and without meaning.

    The basis is that of the model, or a random rotation of it.
    """

    control = True
    basis: Tensor

    def __init__(self, d_in: int, *, name: str, hook: HookSite, seed: int | None = None) -> None:
        """Make it for activations of ``d_in`` dimensions, rotated if there is a ``seed``."""
        kind = "identity" if seed is None else "rotated"
        super().__init__(name=name, architecture=kind, hook=hook, d_in=d_in, d_sae=2 * d_in, capabilities=ORDINARY)
        basis = torch.eye(d_in)
        if seed is not None:
            draw = torch.randn(d_in, d_in, dtype=torch.float64, generator=generator(seed, "adversary:rotated"))
            q, r = torch.linalg.qr(draw)
            basis = (q * r.diagonal().sign()).float()  # without the signs, the rotation would not be uniform
        self.register_buffer("basis", torch.cat([basis, -basis]))

    def encode(self, x: Tensor) -> Tensor:
        return (x.float() @ self.basis.T).relu()

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() @ self.basis

    def decoder_directions(self) -> Tensor:
        return self.basis

    def encoder_directions(self) -> Tensor:
        return self.basis


class AlwaysOn(BaseAdapter):
    """Random directions with a bias so large that every latent is active on nearly every token, decoded exactly."""

    control = True
    directions: Tensor
    dual: Tensor
    bias: Tensor

    def __init__(
        self, activations: Tensor, *, name: str, hook: HookSite, seed: int, d_sae: int = DEFAULT_D_SAE
    ) -> None:
        """Fit the bias to ``activations[tokens, d_in]``. Raises SAELoadError unless ``d_sae`` is at least ``d_in``."""
        d_in = activations.shape[-1]
        if d_sae < d_in:
            raise SAELoadError(f"{name}: d_sae={d_sae} must be at least d_in={d_in}, so that it can be exact.")
        super().__init__(name=name, architecture="always-on", hook=hook, d_in=d_in, d_sae=d_sae, capabilities=ORDINARY)
        draw = torch.randn(d_sae, d_in, dtype=torch.float64, generator=generator(seed, "adversary:always-on"))
        directions = draw / draw.norm(dim=-1, keepdim=True)
        largest = float(activations.float().norm(dim=-1).max())
        self.register_buffer("directions", directions.float())
        self.register_buffer("dual", torch.linalg.pinv(directions).T.float())
        self.register_buffer("bias", torch.tensor(2 * largest))
        self.to(activations.device)

    def encode(self, x: Tensor) -> Tensor:
        return (x.float() @ self.directions.T + self.bias).relu()

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return (z.float() - self.bias) @ self.dual

    def decoder_directions(self) -> Tensor:
        return self.dual

    def encoder_directions(self) -> Tensor:
        return self.directions


class Norm(BaseAdapter):
    """One latent that is the norm of the activation, or none at all: the mean of the activations does the rest.

    The latent's direction is the best one for calibration activations, by least squares.
    """

    control = True
    mean: Tensor
    direction: Tensor

    def __init__(self, activations: Tensor, *, name: str, hook: HookSite, empty: bool = False) -> None:
        """Fit to ``activations[tokens, d_in]``; if ``empty``, the latent never fires."""
        x = activations.double()
        capabilities = ORDINARY - {Capability.ENCODER_DIRECTIONS}
        kind = "empty" if empty else "norm"
        super().__init__(name=name, architecture=kind, hook=hook, d_in=x.shape[-1], d_sae=1, capabilities=capabilities)
        self._empty = empty
        norms = x.norm(dim=-1)
        weights = norms - norms.mean()
        direction = torch.zeros_like(x[0]) if empty else (weights[:, None] * x).sum(0) / weights.square().sum()
        self.register_buffer("direction", direction.float())
        self.register_buffer("mean", (x.mean(0) - (0 if empty else norms.mean()) * direction).float())
        self.check_finite()

    def encode(self, x: Tensor) -> Tensor:
        z = x.float().norm(dim=-1, keepdim=True)
        return torch.zeros_like(z) if self._empty else z

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() * self.direction + self.mean

    def decoder_directions(self) -> Tensor:
        return self.direction[None]


class Memorised(BaseAdapter):
    """One latent for each of some remembered tokens, of which the nearest fires, and alone (vector quantisation)."""

    control = True
    prototypes: Tensor

    def __init__(
        self, activations: Tensor, *, name: str, hook: HookSite, seed: int, d_sae: int = DEFAULT_D_SAE
    ) -> None:
        """Remember ``d_sae`` of ``activations[tokens, d_in]``. Raises SAELoadError if there are fewer."""
        if len(activations) < d_sae:
            raise SAELoadError(f"{name}: {d_sae} tokens cannot be remembered of {len(activations)}; choose fewer.")
        capabilities = ORDINARY - {Capability.ENCODER_DIRECTIONS}
        d_in = activations.shape[-1]
        super().__init__(
            name=name, architecture="memorised", hook=hook, d_in=d_in, d_sae=d_sae, capabilities=capabilities
        )
        chosen = torch.randperm(len(activations), generator=generator(seed, "adversary:memorised"))[:d_sae]
        self.register_buffer("prototypes", activations[chosen.to(activations.device)].float().contiguous())

    def encode(self, x: Tensor) -> Tensor:
        flat = x.float().reshape(-1, self.d_in)
        z = torch.zeros(len(flat), self.d_sae, device=flat.device)
        for rows in torch.arange(len(flat), device=flat.device).split(max(1, _BLOCK // self.d_sae)):
            nearest = torch.cdist(flat[rows], self.prototypes).argmin(-1)
            z[rows, nearest] = self.prototypes[nearest].norm(dim=-1)
        return z.reshape(*x.shape[:-1], self.d_sae)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() @ self.decoder_directions()

    def decoder_directions(self) -> Tensor:
        return self.prototypes / self.prototypes.norm(dim=-1, keepdim=True).clamp_min(1e-12)


class _Rewritten(WrappedSAE):
    """Another SAE whose latents are taken from places ``source`` and multiplied by ``scale``, and undone in decoding.

    ``back`` turns latents of this SAE into those of the other one.
    """

    control = True
    source: Tensor
    scale: Tensor

    def __init__(self, inner: SAE, kind: str, name: str, source: Tensor, scale: Tensor) -> None:
        super().__init__(inner, name=name, architecture=kind, d_sae=len(source))
        self.register_buffer("source", source)
        self.register_buffer("scale", scale)

    def encode(self, x: Tensor) -> Tensor:
        return self.inner.encode(x)[..., self.source] * self.scale

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        return BaseAdapter.encode_sparse(self, x)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        total = torch.zeros(*z.shape[:-1], self.inner.d_sae, device=z.device)
        total.index_add_(-1, self.source, z.float() / self.scale)
        return self.inner.decode(total / self._copies(), x)

    def decoder_directions(self) -> Tensor:
        rows = self.inner.decoder_directions()[self.source]
        return rows / (self.scale * self._copies()[self.source])[:, None]

    def encoder_directions(self) -> Tensor:
        return self.inner.encoder_directions()[self.source] * self.scale[:, None]

    def _copies(self) -> Tensor:
        return torch.bincount(self.source, minlength=self.inner.d_sae).clamp_min(1).float()


def duplicated(inner: SAE, *, name: str) -> BaseAdapter:
    """Each latent twice, each with half of the decoder row: the same function with twice the L0."""
    source = torch.arange(inner.d_sae).repeat(2)
    return _Rewritten(inner, "duplicated", name, source, torch.ones(len(source)))


def reordered(inner: SAE, *, name: str, seed: int) -> BaseAdapter:
    """The latents in another order: the same function."""
    source = torch.randperm(inner.d_sae, generator=generator(seed, "adversary:reordered"))
    return _Rewritten(inner, "reordered", name, source, torch.ones(len(source)))


def rescaled(inner: SAE, *, name: str, seed: int) -> BaseAdapter:
    """Each latent times a factor between 0.1 and 10, and its decoder row divided by it: the same function."""
    power = torch.rand(inner.d_sae, generator=generator(seed, "adversary:rescaled")) * 2 - 1
    return _Rewritten(inner, "rescaled", name, torch.arange(inner.d_sae), _RESCALED**power)


class BrokenDecoder(WrappedSAE):
    """The encoder of another SAE with a decoder that writes something harmful in place of the reconstruction.

    Either the deviation from the decoder's constant is multiplied by ``factor``, or every latent writes along one
    random direction, with the norm of its own decoder row.
    """

    control = True
    direction: Tensor
    norms: Tensor
    constant: Tensor

    def __init__(self, inner: SAE, *, name: str, seed: int, factor: float | None = None) -> None:
        """Wrap an SAE. Raises NotApplicableError if its decoder is not linear.

        Args:
            inner: The SAE.
            name: The reference.
            seed: Draws the direction.
            factor: What the decoder is multiplied by; None for one direction.
        """
        kind = "one-direction" if factor is None else "amplified"
        super().__init__(inner, name=name, architecture=kind)
        self._factor = factor
        rows = inner.decoder_directions().detach()
        direction = torch.randn(inner.d_out, generator=generator(seed, "adversary:one-direction")).to(rows.device)
        self.register_buffer("direction", direction / direction.norm())
        self.register_buffer("norms", rows.float().norm(dim=-1))
        self.register_buffer("constant", self._own_constant(rows.device))

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        if self._factor is None:
            return (z.float() @ self.norms)[..., None] * self.direction + self.constant
        return (self.inner.decode(z, x) - self.constant) * self._factor + self.constant

    def decoder_directions(self) -> Tensor:
        if self._factor is None:
            return self.norms[:, None] * self.direction
        return self.inner.decoder_directions() * self._factor

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "factor": self._factor}

    def _own_constant(self, device: torch.device) -> Tensor:
        zeros = torch.zeros(1, self.inner.d_sae, device=device)
        return self.inner.decode(zeros, torch.zeros(1, self.inner.d_in, device=device))[0].detach().float()
