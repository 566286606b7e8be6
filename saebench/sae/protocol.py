"""What saebench asks of an SAE: a small protocol, and the capabilities that an SAE may have.

Shapes: ``x`` is ``[..., d_in]`` and ``z`` is ``[..., d_sae]``, in float32 unless the adapter says otherwise. Where an
SAE has several hook points (`saebench.sae.hook.HookSite`), ``x`` is the concatenation of the activations at
``hook.sites_in`` along the last dimension, each of width ``d_in / len(hook.sites_in)``, and the reconstruction is
likewise that of ``hook.sites_out``.
A position-wise SAE treats every leading dimension as a batch; other SAEs (temporal ones) take
``[batch, position, d_in]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.capabilities import Capability
from saebench.sae.hook import HookSite

__all__ = ["REQUIRED_MEMBERS", "SAE", "Capability", "HookSite", "SparseCodes", "fingerprint_of"]


class SparseCodes(NamedTuple):
    """The active latents of each token. Unused slots hold the value 0; their index is arbitrary but valid."""

    values: Float[Tensor, "tokens k"]
    indices: Int[Tensor, "tokens k"]


@runtime_checkable
class SAE(Protocol):
    """The contract that every adapter fulfils and ``saebench check-adapter`` verifies."""

    name: str  # its name in tables, e.g. "zoo:topk-k32-s0"
    architecture: str  # "topk", "jumprelu", "pca", ...
    hook: HookSite
    d_in: int  # of all hook points together that it reads
    d_out: int  # of all hook points together that it writes; = d_in except for transcoders
    d_sae: int
    capabilities: frozenset[Capability]
    model_name: str | None  # the language model that it was trained on, if known (informative)
    control: bool  # whether it is a baseline, which tables show and rankings leave out

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents ``z[..., d_sae]`` of activations ``x[..., d_in]``."""
        ...

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Return the reconstruction ``xhat[..., d_out]``.

        ``x`` is the encoder's input. SAEs that rescale each token (layer norm) or have a skip connection need it;
        others ignore it.
        """
        ...

    def to(self, device: torch.device | str) -> SAE:
        """Move to a device, in place, and return self."""
        ...

    def fingerprint(self) -> str:
        """Return a hex digest of weights and settings: equal for equal behaviour, and the same in every process."""
        ...

    def decoder_directions(self) -> Float[Tensor, "d_sae d_out"]:
        """Return the decoder's rows, not normalised. Raises NotApplicableError without ``LINEAR_DECODER``."""
        ...

    def encoder_directions(self) -> Float[Tensor, "d_sae d_in"]:
        """Return the direction that each latent reads. Raises NotApplicableError without ``ENCODER_DIRECTIONS``."""
        ...

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """Return the active latents of ``x[tokens, d_in]``. Raises NotApplicableError without ``SPARSE_ENCODE``."""
        ...


_MEMBERS = (name for name in (*SAE.__annotations__, *vars(SAE)) if not name.startswith("_"))
# What somebody's SAE must have; one that does not say whether it is a control is none.
REQUIRED_MEMBERS = tuple(name for name in _MEMBERS if name != "control")


def fingerprint_of(tensors: Mapping[str, Tensor], settings: Mapping[str, object]) -> str:
    """Return the sha256 of named tensors (dtype, shape, bytes) and settings, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    for key in sorted(settings):
        digest.update(f"{key}={settings[key]!r};".encode())
    return digest.hexdigest()
