"""What all adapters share: tensors, fingerprints, refusals, and the context in which an SAE is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from saebench.errors import HookMismatchError, NotApplicableError, SAELoadError
from saebench.sae.protocol import SAE, Capability, HookSite, SparseCodes, fingerprint_of
from saebench.sae.trained_on import Model, TrainedOn
from saebench.stats import rng
from saebench.synthetic.model import SyntheticModel


@dataclass(frozen=True)
class LoadContext:
    """What loading an SAE may need beside its reference. Most schemes use only a part of it.

    Attributes:
        hook: The hook of the run, for controls that name none.
        calibration: Returns the float32 activations ``[tokens, d_in]`` of the language model at a hook point, to which
            controls are fitted. None when no language model is loaded.
        d_in: Returns the width of the language model at a hook point; raises HookMismatchError for an unknown one.
            None when no language model is loaded.
        seed: The seed of controls that name none.
        device: Where the SAE goes.
        hook_named: Whether the user named ``hook``, so that any SAE that names none takes it.
        model: The language model of the run, which the SAE's metadata is compared with. None when none is loaded.
        synthetic: The synthetic model of the run, where it has one in the place of a language model.
    """

    hook: HookSite | None = None
    calibration: Callable[[str], Tensor] | None = None
    d_in: Callable[[str], int] | None = None
    seed: int = 0
    device: torch.device | str = "cpu"
    hook_named: bool = False
    model: Model | None = None
    synthetic: SyntheticModel | None = None

    @property
    def named_hook(self) -> str | None:
        """The hook point that the user named for SAEs that name none."""
        return self.hook.site_in if self.hook is not None and self.hook_named else None


class BaseAdapter(nn.Module, ABC):
    """An SAE that fulfils the protocol. Tensors are parameters or buffers, so ``to`` and ``state_dict`` are torch's.

    A subclass defines ``encode`` and ``decode``, and the method of every optional capability that it declares.

    Attributes:
        trained_on: What the SAE's metadata says about its training, which a run compares with what it does.
        commit: The commit of the hub that its files are from; None for other SAEs.
    """

    control: bool = False
    commit: str | None = None

    def __init__(
        self,
        *,
        name: str,
        architecture: str,
        hook: HookSite,
        d_in: int,
        d_sae: int,
        d_out: int | None = None,
        capabilities: frozenset[Capability] = frozenset(),
        model_name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.architecture = architecture
        self.hook = hook
        self.d_in = d_in
        self.d_out = d_in if d_out is None else d_out
        self.d_sae = d_sae
        self.capabilities = capabilities
        self.model_name = model_name
        self.trained_on = TrainedOn.of({"model_name": model_name})

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the latents ``[..., d_sae]`` in float32 of ``x[..., d_in]`` of any floating type."""

    @abstractmethod
    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """Return the reconstruction ``[..., d_out]`` in float32; ``x`` is the encoder's input."""

    def decoder_directions(self) -> Tensor:
        raise self._lacks(Capability.LINEAR_DECODER, "its decoder is not one fixed matrix")

    def encoder_directions(self) -> Tensor:
        raise self._lacks(Capability.ENCODER_DIRECTIONS, "its latents do not each read one fixed direction")

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        if Capability.SPARSE_ENCODE not in self.capabilities:
            raise self._lacks(Capability.SPARSE_ENCODE, "use encode()")
        return sparse_from_dense(self.encode(x))

    def settings(self) -> dict[str, object]:
        """The settings beside the weights that change what the SAE computes; they are part of the fingerprint."""
        return {}

    def notes(self) -> dict[str, object]:
        """What a record says about the SAE beside its widths and hook, such as how it was trained."""
        return self.trained_on.notes()

    def fingerprint(self) -> str:
        """Return a hex digest of weights, architecture, hook and settings; it is the same on every device."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        settings = {"architecture": self.architecture, "hook": str(self.hook), **self.settings()}
        return fingerprint_of(self.state_dict(), settings)

    def check_finite(self) -> Self:
        """Return self. Raises SAELoadError that names the first tensor with NaN or Inf."""
        for tensor_name, tensor in self.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                bad = int((~torch.isfinite(tensor)).sum())
                raise SAELoadError(
                    f"{self.name}: {tensor_name.removeprefix('sae.')} holds {bad} NaN or Inf among {tensor.numel()} "
                    "values; the weights are damaged, fetch or train them again."
                )
        return self

    def _lacks(self, capability: Capability, why: str) -> NotApplicableError:
        return NotApplicableError(f"{self.name} ({self.architecture}) has no {capability.value}: {why}.")


def sparse_from_dense(z: Tensor) -> SparseCodes:
    """Return the non-zero latents of ``z[tokens, d_sae]``, with as many slots as the busiest token needs (or one)."""
    rows, latents = (z != 0).nonzero(as_tuple=True)  # ascending rows
    per_row = torch.bincount(rows, minlength=len(z))
    slots = max(1, int(per_row.max())) if len(z) else 1
    slot = torch.arange(len(rows), device=z.device) - (per_row.cumsum(0) - per_row)[rows]
    values = z.new_zeros(len(z), slots)
    indices = torch.zeros(len(z), slots, dtype=torch.long, device=z.device)
    values[rows, slot] = z[rows, latents]
    indices[rows, slot] = latents
    return SparseCodes(values, indices)


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a CPU generator that belongs to this seed and purpose, so that no draw depends on what ran before."""
    return torch.Generator().manual_seed(int(rng.generator(seed, purpose).integers(2**63)))


def check_fits(sae: SAE, d_at: Callable[[str], int]) -> None:
    """Raise HookMismatchError unless the language model has the SAE's hook points, with the SAE's widths."""
    for sites, total in ((sae.hook.sites_in, sae.d_in), (sae.hook.sites_out, sae.d_out)):
        width, rest = divmod(total, len(sites))
        if rest:
            raise HookMismatchError(
                f"{sae.name} has {total} dimensions for {len(sites)} hook points, which do not divide equally; name as "
                "many hook points as it was trained on."
            )
        for site in sites:
            if (present := d_at(site)) != width:
                raise HookMismatchError(
                    f"{sae.name} expects {width} dimensions at {site}, but the language model has {present} there; "
                    "choose the model that the SAE was trained on, or another hook point with ?hook=."
                )
