"""Angles between the directions of a dictionary."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize


def max_cosine_to_others(directions: Float[Tensor, "n d"], block: int = 4096) -> Float[Tensor, " n"]:
    """Return the largest signed cosine of each row with any other row.

    It is NaN for a row of zeros, and for a row that has no other row to be compared with. The cosines are computed in
    blocks of ``block * block`` numbers, each of which serves its rows and its columns. No copy of all rows is made.
    """
    n, device = len(directions), directions.device
    out, zeros = torch.full((n,), -torch.inf, device=device), torch.zeros(n, dtype=torch.bool, device=device)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        unit, zero = _unit(
            directions[rows]
        )  # made anew for each block, because all of them take as much as the weights
        zeros[rows] = zero
        for other in range(start, n, block):
            columns = slice(other, other + block)
            other_unit, other_zero = (unit, zero) if other == start else _unit(directions[columns])
            cosines = unit @ other_unit.T
            if other == start:
                cosines.fill_diagonal_(-torch.inf)
            # A row of zeros has no direction, so it is not a neighbour, not even one at a right angle.
            out[rows] = out[rows].maximum(cosines.masked_fill(other_zero, -torch.inf).amax(1))
            if other != start:
                out[columns] = out[columns].maximum(cosines.masked_fill(zero[:, None], -torch.inf).amax(0))
    return out.masked_fill(zeros | out.isneginf(), torch.nan)


def row_cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], block: int = 4096) -> Float[Tensor, " n"]:
    """Return the cosine of each row of ``a`` with the same row of ``b``; NaN where either is a row of zeros.

    ``block`` rows are compared at a time.
    """
    parts = []
    for rows in (slice(start, start + block) for start in range(0, max(len(a), 1), block)):
        (unit_a, zero_a), (unit_b, zero_b) = _unit(a[rows]), _unit(b[rows])
        parts.append((unit_a * unit_b).sum(-1).masked_fill(zero_a | zero_b, torch.nan))
    return torch.cat(parts)


def _unit(rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]:
    """Return the rows scaled to length one, in float32, and which of them are zeros and so have no direction."""
    rows = rows.float()
    largest = rows.abs().amax(-1, keepdim=True)
    # Rows are first divided by their largest entry, because squares of very small or large ones leave float32's range.
    return normalize(rows / largest.where(largest > 0, 1.0), dim=-1), largest[:, 0] == 0
