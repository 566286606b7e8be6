"""Angles between the directions of a dictionary."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize


def max_cosine_to_others(directions: Float[Tensor, "n d"], block: int = 4096) -> Float[Tensor, " n"]:
    """For each row, the largest (signed) cosine with any other row; NaN for rows of zero length.

    Computed in square blocks, each of which serves its rows and its columns: ``block * block`` numbers at a time. A row
    without another one to compare with: NaN.
    """
    unit, zero = _unit(directions)
    out = torch.full((len(unit),), -torch.inf, device=unit.device)
    for start in range(0, len(unit), block):
        rows = slice(start, start + block)
        for other in range(start, len(unit), block):
            columns = slice(other, other + block)
            cosines = unit[rows] @ unit[columns].T
            if other == start:
                cosines.fill_diagonal_(-torch.inf)
            # No direction: nobody's neighbour, not one at a right angle.
            out[rows] = out[rows].maximum(cosines.masked_fill(zero[columns], -torch.inf).amax(1))
            if other != start:
                out[columns] = out[columns].maximum(cosines.masked_fill(zero[rows, None], -torch.inf).amax(0))
    return out.masked_fill(zero | out.isneginf(), torch.nan)


def row_cosines(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Cosine of each row of ``a`` with the same row of ``b``; NaN where either has zero length."""
    (unit_a, zero_a), (unit_b, zero_b) = _unit(a), _unit(b)
    return (unit_a * unit_b).sum(-1).masked_fill(zero_a | zero_b, torch.nan)


def _unit(rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Bool[Tensor, " n"]]:
    """Rows at length one in float32, and which have no direction; any length that float32 can hold is one."""
    rows = rows.float()
    largest = rows.abs().amax(-1, keepdim=True)
    # Scaled by the largest entry first: squares of very short or long rows leave the range of float32.
    return normalize(rows / largest.where(largest > 0, 1.0), dim=-1), largest[:, 0] == 0
