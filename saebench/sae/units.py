"""SAEs as tasks see them: each latent in units of what it writes.

Multiplying a latent by a factor and dividing its decoder row by it leaves the SAE's function as it was, but
moves every number that compares latents with each other or with a fixed value. So tasks see each latent times the norm
of its decoder row, and decoder rows of norm 1. A latent then has the units of an activation: its value is the length of
what it adds to the reconstruction. docs/design/0012-units-of-latents.md says what follows from this.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.sae.protocol import SAE, Capability, SparseCodes
from saebench.sae.trained_on import trained_on
from saebench.sae.wrapped import WrappedSAE

# Norms that differ from 1 by no more than this differ by the rounding of float32, which the division would not undo.
_ROUNDING = 1e-6


class InUnits(WrappedSAE):
    """An SAE whose decoder rows have norm 1 and whose latents are multiplied by the norms that the rows had.

    Its reconstructions, active latents, encoder directions, capabilities, name and fingerprint are those of the SAE.
    """

    norms: Tensor

    def __init__(self, inner: SAE, norms: Float[Tensor, " d_sae"]) -> None:
        """Wrap an SAE with a linear decoder, whose rows have the given norms."""
        super().__init__(inner, name=inner.name, architecture=inner.architecture)
        self.control = bool(getattr(inner, "control", False))
        self.commit = getattr(inner, "commit", None)
        self.trained_on = trained_on(inner)
        self.register_buffer("norms", norms)

    def encode(self, x: Tensor) -> Tensor:
        return self.inner.encode(x) * self.norms

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        values, indices = self.inner.encode_sparse(x)
        return SparseCodes(values * self.norms[indices.long()], indices)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return self.inner.decode(z / self.norms, x)

    def decoder_directions(self) -> Tensor:
        return self.inner.decoder_directions().detach().float() / self.norms[:, None]

    def fingerprint(self) -> str:
        return self.inner.fingerprint()


def in_units(sae: SAE) -> SAE:
    """Return the SAE with its latents in units of what they write, as every task sees it.

    The norm of a row is over all hook points that it writes. A row of norm 0 writes nothing, so its latent keeps its
    values. An SAE that has no linear decoder, or whose rows all have norm 1 already, is returned as it is.

    Raises whatever ``sae.decoder_directions`` raises.
    """
    if Capability.LINEAR_DECODER not in sae.capabilities:
        return sae
    rows = sae.decoder_directions().detach()
    if tuple(rows.shape) != (sae.d_sae, sae.d_out):
        return sae  # whoever reads the rows says what is wrong with them
    norms = torch.linalg.vector_norm(rows.float(), dim=-1)
    norms = torch.where(torch.isfinite(norms) & (norms > 0), norms, 1.0)
    return sae if bool(((norms - 1).abs() <= _ROUNDING).all()) else InUnits(sae, norms)
