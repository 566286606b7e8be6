"""Subspaces of the residual stream that latents span, for training that is guided by them (arXiv 2505.24428)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import HookMismatchError, UsageError
from saebench.interventions.weights import OutputWeight
from saebench.sae.protocol import SAE
from saebench.stats.subspaces import subspace


@dataclass(frozen=True, eq=False)
class Subspaces:
    """Orthonormal bases of two subspaces, where None stands for the whole space."""

    relevant: Float[Tensor, "d r_relevant"] | None  # where weights may write something else
    irrelevant: Float[Tensor, "d r_irrelevant"] | None  # where the target of the texts to forget lies
    description: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_latents(cls, sae: SAE, relevant: Sequence[int], irrelevant: Sequence[int]) -> Subspaces:
        """Return the spans of the decoder rows of two sets of latents.

        They are the spans that the paper's QR decomposition gives. The rows may depend on one another.

        Args:
            sae: The SAE.
            relevant: The latents of the relevant subspace.
            irrelevant: The latents of the irrelevant subspace.

        Raises:
            NotApplicableError: The SAE has no decoder rows.
            UsageError: A set is empty, a latent does not exist, or all rows of a set are 0.
        """
        rows = sae.decoder_directions()
        description = {
            "sae": sae.fingerprint(),
            "relevant": [int(latent) for latent in relevant],
            "irrelevant": [int(latent) for latent in irrelevant],
        }
        return cls(_span(rows, relevant, sae), _span(rows, irrelevant, sae), description)

    @classmethod
    def random(cls, d: int, r_relevant: int, r_irrelevant: int, rng: np.random.Generator) -> Subspaces:
        """Draw two random subspaces, which are a control of equal rank.

        Args:
            d: The dimension of the space.
            r_relevant: The rank of the relevant subspace.
            r_irrelevant: The rank of the irrelevant subspace.
            rng: The random generator.

        Raises:
            UsageError: A rank is below 1 or above ``d``.
        """
        for rank in (r_relevant, r_irrelevant):
            if not 1 <= rank <= d:
                raise UsageError(f"A random subspace of {d} dimensions has a rank of 1 to {d}, not {rank}.")
        relevant, irrelevant = (
            torch.linalg.qr(torch.from_numpy(rng.standard_normal((d, rank)))).Q for rank in (r_relevant, r_irrelevant)
        )
        return cls(relevant, irrelevant, {"random": [r_relevant, r_irrelevant]})

    def describe(self) -> dict[str, Any]:
        """Return where the subspaces come from and their ranks, ready for JSON; None stands for the whole space."""
        ranks = [None if basis is None else basis.shape[1] for basis in (self.relevant, self.irrelevant)]
        return {**self.description, "ranks": ranks}

    def check(self, d_model: int) -> None:
        """Raise HookMismatchError if a basis has another width than the residual stream."""
        for basis in (self.relevant, self.irrelevant):
            if basis is not None and basis.shape[0] != d_model:
                raise HookMismatchError(
                    f"The subspaces have {basis.shape[0]} dimensions, but the residual stream has {d_model}; "
                    "use an SAE that writes into the residual stream of this model."
                )


def shrinkage(basis: Float[Tensor, "d r"], output: OutputWeight, amount: float) -> Float[Tensor, "d_model d_model"]:
    """Return the matrix S for which V = S dW minimises ||V - dW||_F^2 + amount ||(I - U U^T) G V||_F^2 / mean(G^2).

    G is the diagonal matrix of the gains of a norm after the projection, because it matters where in the residual
    stream the change is written. Without such a norm, S keeps the part inside the span of U and divides the rest by
    1 + amount.

    Args:
        basis: The orthonormal basis U.
        output: The projection that dW changes.
        amount: The weight of the penalty.
    """
    gain, basis = output.gain.double(), basis.double().to(output.gain.device)
    outside = torch.eye(len(gain), dtype=torch.float64, device=gain.device) - basis @ basis.T
    metric = gain[:, None] * outside * gain / gain.square().mean()
    return torch.linalg.inv(torch.eye(len(gain), dtype=torch.float64, device=gain.device) + amount * metric)


def _span(rows: Tensor, latents: Sequence[int], sae: SAE) -> Tensor:
    if len(latents) == 0:
        raise UsageError(f"One of the subspaces has no latent of {sae.name}; name at least one for each subspace.")
    for latent in latents:
        if not 0 <= latent < sae.d_sae:
            raise UsageError(f"{sae.name} has the latents 0 to {sae.d_sae - 1}, but no latent {latent}.")
    chosen = rows[list(latents)].double()
    chosen = chosen / chosen.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    basis = subspace(chosen, energy=1.0).basis
    if basis.shape[1] == 0:
        raise UsageError(
            f"The decoder rows of the latents {list(latents)} of {sae.name} are all 0; choose other latents."
        )
    return basis
