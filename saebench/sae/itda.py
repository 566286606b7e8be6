"""ITDA: dictionaries whose rows are activations of the training, read by matching pursuit (arXiv 2505.17769)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from saebench.errors import SAELoadError, shown
from saebench.sae.base import BaseAdapter
from saebench.sae.hook import HookSite
from saebench.sae.modules import site_of_module
from saebench.sae.protocol import Capability
from saebench.sae.tensor_files import read_tensor
from saebench.yaml_file import read_yaml

_CAPABILITIES = frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE, Capability.SPARSE_ENCODE})
_UNIT = 0.02  # by which the norm of an atom may differ from 1: more than bfloat16 rounds


class ITDA(BaseAdapter):
    """k rounds of matching pursuit: each takes the atom d with the largest \\|r . d\\| out of the residual r.

    The formula is that of mp_encode in ITDA's train.py (github davidkaczer/itda). Coefficients r . d are signed, and an
    atom that is chosen twice has the sum of both. No latent reads a fixed direction.
    """

    W_dec: Tensor

    def __init__(self, atoms: Tensor, k: int, *, name: str, hook: HookSite, model_name: str | None = None) -> None:
        """Make a dictionary.

        Args:
            atoms: The dictionary ``[d_sae, d_in]``, whose rows have norm 1.
            k: The number of rounds.
            name: The reference.
            hook: Where it reads.
            model_name: The language model that it was trained on, if known.

        Raises:
            SAELoadError: The atoms are no matrix of unit rows, hold NaN or Inf, or are fewer than k.
        """
        if atoms.ndim != 2 or 0 in atoms.shape or not atoms.is_floating_point():
            raise SAELoadError(
                f"{name}: the atoms have shape {list(atoms.shape)} and type {str(atoms.dtype).removeprefix('torch.')}, "
                "but must be a matrix [d_sae, d_in] of floating-point numbers."
            )
        super().__init__(
            name=name,
            architecture="itda",
            hook=hook,
            d_in=atoms.shape[1],
            d_sae=atoms.shape[0],
            capabilities=_CAPABILITIES,
            model_name=model_name,
        )
        if not 1 <= k <= self.d_sae:
            raise SAELoadError(f"{name}: k={k} must be from 1 to the number of atoms, {self.d_sae}.")
        self.k = k
        self.register_buffer("W_dec", atoms.detach().float().contiguous())
        self.check_finite()
        norms = self.W_dec.norm(dim=-1)
        if not bool(((norms - 1).abs() < _UNIT).all()):
            raise SAELoadError(
                f"{name}: the norms of its atoms are from {float(norms.min()):.3g} to {float(norms.max()):.3g} instead "
                "of 1, so matching pursuit does not apply; call normalize_decoder() before saving it."
            )

    def encode(self, x: Tensor) -> Tensor:
        residual = x.float().reshape(-1, self.d_in)
        z = residual.new_zeros(len(residual), self.d_sae)
        for _ in range(self.k):
            products = residual @ self.W_dec.T
            best = products.abs().argmax(dim=-1, keepdim=True)
            coefficient = products.gather(-1, best)
            z.scatter_add_(-1, best, coefficient)
            residual = residual - coefficient * self.W_dec[best.squeeze(-1)]
        return z.reshape(*x.shape[:-1], self.d_sae)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z.float() @ self.W_dec

    def decoder_directions(self) -> Tensor:
        return self.W_dec

    def settings(self) -> dict[str, object]:
        return {"k": self.k}


def read_itda(
    folder: Path, name: str, *, hook: str | None = None, k: int | None = None, default_hook: str | None = None
) -> ITDA:
    """Return the dictionary in a folder with ``atoms.pt`` and ``metadata.yaml``.

    Args:
        folder: The folder.
        name: The reference.
        hook: Where it reads, in place of what the metadata says.
        k: The number of rounds, in place of what the metadata says.
        default_hook: Where it reads if the metadata does not say so.

    Raises:
        SAELoadError: A file is missing or damaged, or the dictionary cannot be run.
    """
    if not folder.is_dir():
        raise SAELoadError(f"{name}: name the folder that holds atoms.pt and metadata.yaml.")
    metadata = read_yaml(folder / "metadata.yaml", "metadata", SAELoadError)
    if not isinstance(metadata, dict):
        raise SAELoadError(f"{name}: metadata.yaml must hold a mapping, not {shown(metadata)}.")
    k = metadata.get("k") if k is None else k
    if type(k) is not int:
        raise SAELoadError(f"{name}: metadata.yaml says k={shown(k)}; add ?k=NUMBER to the reference.")
    site = hook or _site(metadata) or default_hook
    if site is None:
        raise SAELoadError(f"{name} does not say where it reads; add ?hook=blocks.9.hook_resid_post to the reference.")
    model = metadata.get("lm_name")
    atoms = read_tensor(folder / "atoms.pt", name)
    return ITDA(
        atoms, k, name=name, hook=HookSite.at(site), model_name=model if isinstance(model, str) and model else None
    )


def _site(metadata: Mapping[str, Any]) -> str | None:
    """Return the hook point that the metadata names: the output of a layer unless it names a module."""
    layer, module = metadata.get("layer"), metadata.get("submodule_name")
    if isinstance(module, str) and module:
        site = site_of_module(module)
        return site if "hook_" in site else None
    return f"blocks.{layer}.hook_resid_post" if type(layer) is int and layer >= 0 else None
