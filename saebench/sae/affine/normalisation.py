"""The normalisation of each token before the encoder, and its inverse after the decoder.

A constant factor for all tokens needs nothing here: `saebench.sae.affine.weights.scaled` folds it into the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Normalisation(ABC):
    """A map of each token that depends on the token itself."""

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """Return what the encoder reads of ``x[..., d_in]``."""

    @abstractmethod
    def undo(self, xhat: Tensor, x: Tensor) -> Tensor:
        """Return the reconstruction of ``x`` from what the decoder wrote, both ``[..., d_in]``."""


@dataclass(frozen=True)
class LayerNorm(Normalisation):
    """(x - mean) / (std + eps) over the dimensions of a token, with the standard deviation that divides by d - 1.

    Attributes:
        eps: What is added to the standard deviation before dividing.
        undone: Whether the reconstruction is multiplied by the standard deviation (without eps) and shifted back. If it
            is not, the SAE reconstructs the normalised activation.
    """

    eps: float = 1e-5
    undone: bool = True

    def apply(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + self.eps)

    def undo(self, xhat: Tensor, x: Tensor) -> Tensor:
        if not self.undone:
            return xhat
        return xhat * x.std(-1, keepdim=True) + x.mean(-1, keepdim=True)


@dataclass(frozen=True)
class NormRescale(Normalisation):
    """x scaled to the norm sqrt(d) (SAELens calls this ``constant_norm_rescale``)."""

    def apply(self, x: Tensor) -> Tensor:
        # A token of zeros stays one.
        return x * (x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny))

    def undo(self, xhat: Tensor, x: Tensor) -> Tensor:
        return xhat * (x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5)
