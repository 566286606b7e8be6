"""What an SAE is to saebench: a small protocol, and the capabilities that it may have.

Shapes: ``x`` is ``[..., d_in]`` and ``z`` is ``[..., d_sae]``, in float32 unless the adapter says otherwise.
A position-wise SAE treats every leading dimension as a batch; one that is not (temporal SAEs) takes
``[batch, position, d_in]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.capabilities import Capability

__all__ = ["SAE", "Capability", "HookSite", "SparseCodes", "fingerprint_of"]


@dataclass(frozen=True)
class HookSite:
    """Where an SAE reads and writes, in TransformerLens names (``blocks.9.hook_resid_post``).

    ``site_out`` differs from ``site_in`` for transcoders only.
    """

    site_in: str
    site_out: str

    @classmethod
    def at(cls, site: str) -> HookSite:
        return cls(site, site)

    def __str__(self) -> str:
        return self.site_in if self.site_in == self.site_out else f"{self.site_in}->{self.site_out}"


class SparseCodes(NamedTuple):
    """The active latents of each token; unused slots hold value 0 (their index is arbitrary but valid)."""

    values: Float[Tensor, "tokens k"]
    indices: Int[Tensor, "tokens k"]


@runtime_checkable
class SAE(Protocol):
    """The contract that every adapter fulfils. Verified by ``saebench check-adapter``."""

    name: str  # how tables call it, e.g. "zoo:topk-k32-s0"
    architecture: str  # "topk", "jumprelu", "pca", ...
    hook: HookSite
    d_in: int
    d_out: int  # = d_in except for transcoders
    d_sae: int
    capabilities: frozenset[Capability]
    model_name: str | None  # the LM it was trained on, if known (informative)

    def encode(self, x: Tensor) -> Tensor:
        """Latents ``z[..., d_sae]`` of activations ``x[..., d_in]``."""
        ...

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Reconstruction ``xhat[..., d_out]``. ``x`` is the encoder's input: SAEs that rescale per token
        (layer norm) or have a skip connection need it, others ignore it."""
        ...

    def to(self, device: torch.device | str) -> SAE:
        """Move to a device, in place; returns self."""
        ...

    def fingerprint(self) -> str:
        """Hex digest of weights and settings; equal for equal behaviour, stable across processes."""
        ...

    def decoder_directions(self) -> Float[Tensor, "d_sae d_out"]:
        """Rows d_i, unnormalised. Needs ``LINEAR_DECODER``; raises NotApplicableError otherwise."""
        ...

    def encoder_directions(self) -> Float[Tensor, "d_sae d_in"]:
        """Rows e_i. Needs ``ENCODER_DIRECTIONS``; raises NotApplicableError otherwise."""
        ...

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """Active latents of ``x[tokens, d_in]``. Needs ``SPARSE_ENCODE``; raises NotApplicableError otherwise."""
        ...


def fingerprint_of(tensors: Mapping[str, Tensor], settings: Mapping[str, object]) -> str:
    """sha256 over named tensors (dtype, shape, bytes) and settings, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    for key in sorted(settings):
        digest.update(f"{key}={settings[key]!r};".encode())
    return digest.hexdigest()
