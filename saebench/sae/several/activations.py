"""Activation functions that only SAEs with several hook points have."""

from __future__ import annotations

import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.sae.affine.activations import Activation, JumpReLU
from saebench.sae.protocol import SparseCodes


class GroupTopK(Activation):
    """z = relu(p) for the k largest p in each of several groups of equal size, else 0."""

    def __init__(self, k: int, groups: int) -> None:
        super().__init__()
        self.k, self.groups = k, groups

    def forward(self, p: Tensor) -> Tensor:
        values, indices = self.sparse(p)
        return torch.zeros_like(p).scatter_(-1, indices, values)

    def sparse(self, p: Tensor) -> SparseCodes:
        values, indices = p.unflatten(-1, (self.groups, -1)).topk(self.k, dim=-1, sorted=False)
        size = p.shape[-1] // self.groups
        indices = indices + torch.arange(0, p.shape[-1], size, device=p.device)[:, None]
        return SparseCodes(values.relu().flatten(-2), indices.flatten(-2))

    def settings(self) -> dict[str, object]:
        return {"k": self.k, "groups": self.groups}

    def fit(self, d_sae: int) -> None:
        if not 1 <= self.k <= d_sae // self.groups:
            raise SAELoadError(f"k={self.k} must be from 1 to the number of latents of a group, {d_sae // self.groups}")


class InDecoderNorms(Activation):
    """z = act(p n) / n for the norm n of the decoder of each latent, which thresholds and rankings are in units of."""

    norms: Tensor

    def __init__(self, inner: Activation, norms: Tensor) -> None:
        """Make the function from another one and the norms ``[d_sae]``. A latent whose norm is 0 is never active."""
        super().__init__()
        self.inner, self.non_negative = inner, inner.non_negative
        self.register_buffer("norms", norms.float())

    def forward(self, p: Tensor) -> Tensor:
        z: Tensor = self.inner(p * self.norms)
        return z / self._safe(self.norms)

    def sparse(self, p: Tensor) -> SparseCodes:
        values, indices = self.inner.sparse(p * self.norms)
        return SparseCodes(values / self._safe(self.norms[indices]), indices)

    def settings(self) -> dict[str, object]:
        return {"inner": type(self.inner).__name__, **self.inner.settings()}

    def fit(self, d_sae: int) -> None:
        self.inner.fit(d_sae)

    def _safe(self, norms: Tensor) -> Tensor:
        return torch.where(norms > 0, norms, torch.ones_like(norms))


class Jump(JumpReLU):
    """z = p where p exceeds a threshold, else 0. It differs from JumpReLU only below 0, for a negative threshold."""

    def __init__(self, threshold: Tensor, *, inclusive: bool = False) -> None:
        super().__init__(threshold, inclusive=inclusive)
        self.non_negative = bool((threshold >= 0).all())

    def forward(self, p: Tensor) -> Tensor:
        return p * (p >= self.threshold if self.inclusive else p > self.threshold)
