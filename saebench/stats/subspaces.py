"""Linear subspaces spanned by sets of directions: how large they are, and how much two of them share.

Rows are not centred, because sums of directions lie in a subspace through the origin. Everything is in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ENERGY = 0.9  # the share of the rows' squared length that a subspace holds


@dataclass(frozen=True)
class Subspace:
    """The leading right singular vectors of some rows, and the squares of all their singular values."""

    basis: Float[Tensor, "d rank"]  # orthonormal columns
    energies: Float[Tensor, " d"]  # descending; they sum to the squared length of all rows

    @property
    def rank(self) -> int:
        """The dimension of the subspace."""
        return self.basis.shape[1]

    @property
    def effective_rank(self) -> float:
        """The effective rank exp(H(p)), where p are the energies' shares (Roy and Vetterli 2007); NaN if all are 0."""
        p = self.energies / self.energies.sum()
        return float(torch.special.entr(p).sum().exp())


def subspace(rows: Float[Tensor, "n d"], energy: float = ENERGY) -> Subspace:
    """Return the smallest subspace of singular vectors that holds the share ``energy`` of the rows' squared length."""
    rows = rows.double()
    n, d = rows.shape
    if n < d:  # both products have the same squared singular values, so the smaller one is decomposed
        values, left = torch.linalg.eigh(rows @ rows.T)
        values, left = values.flip(0).clamp(min=0), left.flip(1)
        energies = torch.cat([values, values.new_zeros(d - n)])
    else:
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        energies = values.flip(0).clamp(min=0)
    # Because of rounding, the wanted share may be missed by the last digit.
    reached = energies.cumsum(0) < energy * energies.sum() * (1 - 1e-12)
    rank = int(reached.sum()) + 1 if float(energies.sum()) > 0 else 0
    basis = rows.T @ left[:, :rank] / energies[:rank].sqrt() if n < d else vectors.flip(1)[:, :rank]
    return Subspace(basis, energies)


def overlap(a: Float[Tensor, "d k_a"], b: Float[Tensor, "d k_b"]) -> float:
    """Return the mean squared cosine of the principal angles between two subspaces, ||A^T B||_F^2 / min(k_a, k_b).

    It is 1 if one subspace lies in the other, max(k_a, k_b) / d on average for random ones, and NaN for an empty one.

    Args:
        a: An orthonormal basis, in columns.
        b: Another one.
    """
    smaller = min(a.shape[1], b.shape[1])
    return float((a.T @ b).square().sum()) / smaller if smaller else float("nan")


def explained_energy(rows: Float[Tensor, "n d"], basis: Float[Tensor, "d k"]) -> float:
    """Return the share of the rows' squared length inside a subspace, ||U B||_F^2 / ||U||_F^2.

    It is k / d on average for a random subspace, and NaN if all rows are zeros.

    Args:
        rows: The rows U.
        basis: An orthonormal basis B of the subspace, in columns.
    """
    rows = rows.double()
    total = float(rows.square().sum())
    return float((rows @ basis).square().sum()) / total if total > 0 else float("nan")


def above(value: float, null: float) -> float:
    """Return (value - null) / (1 - null), which is 0 at the null and 1 at most; NaN if the null is 1 already."""
    return (value - null) / (1 - null) if null < 1 else float("nan")
