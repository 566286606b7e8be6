"""Interventions along directions, which need not come from an SAE: adding a vector, and directional ablation."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import DataError, UsageError
from saebench.interventions.base import check_input, finite
from saebench.interventions.latents import Latents
from saebench.sae.protocol import fingerprint_of


class _ByDirection:
    """An intervention whose change of a token depends on that token only. No SAE is run, so its error is kept."""

    kind: ClassVar[str]
    causal = True

    def __init__(self, site: str, directions: Float[Tensor, "n d"], strength: float) -> None:
        if not bool(torch.isfinite(directions).all()):
            raise DataError(f"The directions of an intervention at {site} hold NaN or Inf.")
        self.site = self.reads = site
        self.directions = directions.detach().float()
        self.strength = finite("strength", strength)
        self.origin: dict[str, Any] = {"directions": fingerprint_of({"directions": self.directions}, {})}
        self._nothing = self.strength == 0 or not bool(self.directions.any())

    @torch.no_grad()
    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        check_input(self.site, self.directions.shape[-1], x, mask)
        if self._nothing:
            return x
        return torch.where(mask[..., None], self._changed(x.float()).to(x.dtype), x)

    def reset(self) -> None:
        """Do nothing, because nothing is remembered."""

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the change, ready for JSON."""
        return {"kind": self.kind, "site": self.site, "error": "kept", **self.origin, "strength": self.strength}

    def _changed(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class AddVector(_ByDirection):
    """The addition of a vector: x' = x + strength v."""

    kind: ClassVar[str] = "add_vector"

    def __init__(self, site: str, vector: Float[Tensor, " d"], strength: float, *, restore_norm: bool = False) -> None:
        """Build the intervention.

        Args:
            site: The hook to act at.
            vector: The vector v.
            strength: The factor of the vector.
            restore_norm: Whether x' is scaled to the norm of x (arXiv 2509.14814).

        Raises:
            DataError: The vector holds NaN or Inf.
            UsageError: The strength is not finite.
        """
        super().__init__(site, vector[None], strength)
        self.restore_norm = restore_norm

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the change, ready for JSON."""
        return {**super().describe(), "restore_norm": self.restore_norm}

    def _changed(self, x: Tensor) -> Tensor:
        changed = x + self.strength * self.directions[0].to(x.device)
        if not self.restore_norm:
            return changed
        norm = changed.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        return changed * (x.norm(dim=-1, keepdim=True) / norm)


class DirectionalAblation(_ByDirection):
    """Directional ablation: x' = x - strength Q Q^T (x - centre), where Q is an orthonormal basis of some directions.

    For one direction without a centre this is the ablation of arXiv 2505.05111. Several directions are removed
    together, and their order does not matter. Directions that depend on others, or are zero, change nothing. If
    activations lie far from 0, as Gemma-3's do, removing a direction without a centre also removes its share of their
    mean, which harms every text. With their mean as the centre, only the part that varies is removed.
    """

    kind: ClassVar[str] = "ablate"

    def __init__(
        self,
        site: str,
        directions: Float[Tensor, "n d"],
        *,
        strength: float = 1.0,
        centre: Float[Tensor, " d"] | None = None,
    ) -> None:
        """Build the intervention.

        Args:
            site: The hook to act at.
            directions: The directions to remove.
            strength: The share that is removed; 1 removes the directions entirely.
            centre: The activation to which the directions' components are set; by default 0.

        Raises:
            DataError: The directions or the centre hold NaN or Inf.
            UsageError: The strength is not finite.
        """
        super().__init__(site, directions, strength)
        self._basis = _basis(self.directions)
        # Only the centre's part along the directions matters.
        self._kept = None if centre is None else (centre.detach().float() @ self._basis.T) @ self._basis
        if self._kept is not None and not bool(torch.isfinite(self._kept).all()):
            raise DataError(f"The centre of an ablation at {site} holds NaN or Inf.")

    @classmethod
    def of_latents(
        cls, latents: Latents, *, strength: float = 1.0, centre: Float[Tensor, " d"] | None = None
    ) -> DirectionalAblation:
        """Build the ablation of the decoder rows of some latents.

        Args:
            latents: The latents.
            strength: The share that is removed.
            centre: The activation to which the directions' components are set; by default 0.

        Raises:
            NotApplicableError: The SAE has no linear decoder.
            UsageError: The SAE's error is to be dropped.
        """
        if latents.error != "kept":
            raise UsageError(
                "Directional ablation acts on the activation itself, which includes the SAE's error; use error=kept."
            )
        ablation = cls(latents.sae.hook.site_out, latents.directions, strength=strength, centre=centre)
        ablation.origin = latents.describe()
        return ablation

    def _changed(self, x: Tensor) -> Tensor:
        basis = self._basis.to(x.device)
        along = (x @ basis.T) @ basis
        return x - self.strength * (along if self._kept is None else along - self._kept.to(x.device))

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the change, ready for JSON."""
        centre = None if self._kept is None else fingerprint_of({"centre": self._kept}, {})
        return {**super().describe(), **({} if centre is None else {"centre": centre})}


def _basis(directions: Float[Tensor, "n d"]) -> Float[Tensor, "rank d"]:
    """Return orthonormal rows that span the directions, whatever their lengths."""
    lengths = directions.norm(dim=-1)
    units = (directions[lengths > 0] / lengths[lengths > 0, None]).double()
    _, sizes, rows = torch.linalg.svd(units, full_matrices=False)
    return rows[sizes > 1e-6 * len(units) ** 0.5].float()
