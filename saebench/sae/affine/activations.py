"""Activation functions: what turns pre-activations ``p[..., d_sae]`` into latents.

They are modules, because thresholds and gates are weights: they move with the SAE and are part of its fingerprint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from saebench.errors import SAELoadError
from saebench.sae.base import sparse_from_dense
from saebench.sae.protocol import SparseCodes


class Activation(nn.Module, ABC):
    """One activation function.

    Attributes:
        non_negative: Whether every latent is at least 0.
    """

    non_negative: bool = True

    @abstractmethod
    def forward(self, p: Tensor) -> Tensor:
        """Return the latents ``[..., d_sae]`` of pre-activations of the same shape."""

    def sparse(self, p: Tensor) -> SparseCodes:
        """Return the active latents of ``p[tokens, d_sae]``."""
        return sparse_from_dense(self(p))

    def settings(self) -> dict[str, object]:
        """The settings beside the weights; they are part of the fingerprint."""
        return {}

    def fit(self, d_sae: int) -> None:
        """Raise SAELoadError for settings or weights that do not fit ``d_sae`` latents."""


class ReLU(Activation):
    """z = relu(p)."""

    def forward(self, p: Tensor) -> Tensor:
        return p.relu()


class JumpReLU(Activation):
    """z = relu(p) where p exceeds a threshold, else 0 (2407.14435, equation 3).

    A trained BatchTopK SAE is one, too: at inference a threshold stands in for the selection in a batch.
    """

    threshold: Tensor

    def __init__(self, threshold: Tensor, *, inclusive: bool = False) -> None:
        """Make the function.

        Args:
            threshold: One threshold for each latent ``[d_sae]``, or one for all of them ``[]``.
            inclusive: Whether a pre-activation that equals its threshold passes.
        """
        super().__init__()
        self.register_buffer("threshold", threshold.float())
        self.inclusive = inclusive

    def forward(self, p: Tensor) -> Tensor:
        passes = p >= self.threshold if self.inclusive else p > self.threshold
        return p.relu() * passes

    def settings(self) -> dict[str, object]:
        return {"inclusive": True} if self.inclusive else {}

    def fit(self, d_sae: int) -> None:
        if self.threshold.ndim and tuple(self.threshold.shape) != (d_sae,):
            raise SAELoadError(f"the threshold has shape {list(self.threshold.shape)}, not [{d_sae}] or one number")


class TopK(Activation):
    """z = relu(p) for the k largest p of a token, else 0 (2406.04093, equation 4)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, p: Tensor) -> Tensor:
        values, indices = p.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(p).scatter_(-1, indices, values.relu())

    def sparse(self, p: Tensor) -> SparseCodes:
        values, indices = p.topk(self.k, dim=-1, sorted=False)
        return SparseCodes(values.relu(), indices)

    def settings(self) -> dict[str, object]:
        return {"k": self.k}

    def fit(self, d_sae: int) -> None:
        if not 1 <= self.k <= d_sae:
            raise SAELoadError(f"k={self.k} must be from 1 to the number of latents, {d_sae}")


class SignedTopK(TopK):
    """z = p for the k largest p of a token, else 0. A latent is negative where fewer than k pre-activations are not."""

    non_negative = False

    def forward(self, p: Tensor) -> Tensor:
        values, indices = self.sparse(p)
        return torch.zeros_like(p).scatter_(-1, indices, values)

    def sparse(self, p: Tensor) -> SparseCodes:
        values, indices = p.topk(self.k, dim=-1, sorted=False)
        return SparseCodes(values, indices)


class AbsTopK(TopK):
    """z = p for the k largest \\|p\\| of a token, else 0, so that latents are signed (2510.00404)."""

    non_negative = False

    def forward(self, p: Tensor) -> Tensor:
        values, indices = self.sparse(p)
        return torch.zeros_like(p).scatter_(-1, indices, values)

    def sparse(self, p: Tensor) -> SparseCodes:
        indices = p.abs().topk(self.k, dim=-1, sorted=False).indices
        return SparseCodes(p.gather(-1, indices), indices)


class GroupMax(Activation):
    """z = relu(p) for the largest p in each of k contiguous groups of latents, else 0 (as in sparsify)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, p: Tensor) -> Tensor:
        values, indices = self.sparse(p)
        return torch.zeros_like(p).scatter_(-1, indices, values)

    def sparse(self, p: Tensor) -> SparseCodes:
        values, indices = p.unflatten(-1, (self.k, -1)).max(dim=-1)
        size = p.shape[-1] // self.k
        return SparseCodes(values.relu(), indices + torch.arange(0, p.shape[-1], size, device=p.device))

    def settings(self) -> dict[str, object]:
        return {"k": self.k}

    def fit(self, d_sae: int) -> None:
        if self.k < 1 or d_sae % self.k:
            raise SAELoadError(f"{d_sae} latents cannot be divided into k={self.k} groups")


class InDecoderNorms(Activation):
    """z = act(p * n) / n, where n are the norms of the decoder's rows: selection depends on them, magnitudes do not."""

    norms: Tensor

    def __init__(self, inner: Activation, norms: Tensor) -> None:
        """Make the function from the one of ``p * norms``, ``norms[d_sae]``. A latent whose norm is 0 stays 0."""
        super().__init__()
        self.inner = inner
        self.non_negative = inner.non_negative
        self.register_buffer("norms", norms.float())

    def forward(self, p: Tensor) -> Tensor:
        latents: Tensor = self.inner(p * self.norms)
        return latents / self._divisor()

    def sparse(self, p: Tensor) -> SparseCodes:
        values, indices = self.inner.sparse(p * self.norms)
        return SparseCodes(values / self._divisor()[indices], indices)

    def settings(self) -> dict[str, object]:
        return {"inner": type(self.inner).__name__, **self.inner.settings()}

    def fit(self, d_sae: int) -> None:
        self.inner.fit(d_sae)

    def _divisor(self) -> Tensor:
        return self.norms.where(self.norms > 0, 1)


class Gated(Activation):
    """z = relu(p + b_mag) where p + b_gate > 0, else 0 (2404.16014, equation 6), with p = (x - pre) W_enc.

    The encoder of the magnitudes is that of the gate times exp(r_mag). `gated` moves this factor into the weights.
    """

    b_gate: Tensor
    b_mag: Tensor

    def __init__(self, b_gate: Tensor, b_mag: Tensor) -> None:
        """Make the function from the biases of the gate and of the magnitudes, ``[d_sae]`` each."""
        super().__init__()
        self.register_buffer("b_gate", b_gate.float())
        self.register_buffer("b_mag", b_mag.float())

    def forward(self, p: Tensor) -> Tensor:
        return (p + self.b_mag).relu() * (p + self.b_gate > 0)

    def fit(self, d_sae: int) -> None:
        for name in ("b_gate", "b_mag"):
            if tuple(getattr(self, name).shape) != (d_sae,):
                raise SAELoadError(f"{name} has shape {list(getattr(self, name).shape)}, not [{d_sae}]")
