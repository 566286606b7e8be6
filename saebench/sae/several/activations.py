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


class Jump(JumpReLU):
    """z = p where p exceeds a threshold, else 0. It differs from JumpReLU only below 0, for a negative threshold."""

    def __init__(self, threshold: Tensor, *, inclusive: bool = False) -> None:
        super().__init__(threshold, inclusive=inclusive)
        self.non_negative = bool((threshold >= 0).all())

    def forward(self, p: Tensor) -> Tensor:
        return p * (p >= self.threshold if self.inclusive else p > self.threshold)
