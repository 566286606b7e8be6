"""The matching of the rows of two dictionaries by their cosine, without ever holding the whole similarity matrix.

Rows are directions: their length does not matter, and a row of zeros is matched with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

BLOCK = 4096  # rows and columns of the similarities that are held at a time: 67 MB in float32
EXACT = 16384  # the most rows for which the Hungarian algorithm alone is used; its float64 costs take 2 GB there
_TAIL = 2048  # the rows of larger dictionaries that it matches, when mutual nearest neighbours have matched the others
_ROUNDS = 64  # the most rounds of matching mutual nearest neighbours


@dataclass(frozen=True)
class BestMatches:
    """The most similar row of ``b`` for each row of ``a`` (forward), and of ``a`` for each row of ``b`` (backward).

    The similarity is NaN and the index -1 for a row that has none.
    """

    forward: Float[Tensor, " n_a"]  # similarities
    forward_index: Int[Tensor, " n_a"]
    backward: Float[Tensor, " n_b"]  # similarities
    backward_index: Int[Tensor, " n_b"]


@dataclass(frozen=True)
class Matching:
    """A row of ``b`` for each row of ``a``, and no row of ``b`` twice. Unmatched rows have index -1, similarity NaN."""

    index: NDArray[np.int64]  # [n_a]
    similarity: NDArray[np.float64]  # [n_a]
    exact: bool  # whether no other matching has a greater total similarity; otherwise part of it is greedy

    @property
    def mean(self) -> float:
        """The mean similarity of the matched rows; NaN if no row is matched."""
        matched = self.similarity[self.index >= 0]
        return float(matched.mean()) if len(matched) else float("nan")

    def turned(self, n_b: int) -> Matching:
        """Return the same matching the other way round: a row of ``a`` for each of the ``n_b`` rows of ``b``."""
        index, similarity = np.full(n_b, -1, np.int64), np.full(n_b, np.nan)
        matched = self.index >= 0
        index[self.index[matched]] = np.flatnonzero(matched)
        similarity[self.index[matched]] = self.similarity[matched]
        return Matching(index, similarity, self.exact)


def centred(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Return the rows scaled to length one, minus their mean, which removes a direction that all rows share.

    Rows of zeros stay zeros and do not count in the mean (arXiv 2606.02061).
    """
    unit, keep = _directions(rows)
    out = torch.zeros_like(rows, dtype=torch.float32)
    out[keep] = unit - unit.mean(0)
    return out


def best_matches(
    a: Float[Tensor, "n_a d"], b: Float[Tensor, "n_b d"], *, absolute: bool = False, block: int = BLOCK
) -> BestMatches:
    """Return the most similar row of the other dictionary for each row of both, from one pass over blocks.

    If several rows are equally similar, the first is taken.

    Args:
        a: The rows of one dictionary.
        b: The rows of the other.
        absolute: Whether to ignore the sign of a cosine, so that opposite directions are equal.
        block: The number of rows of a block; ``block * block`` similarities are held at a time.
    """
    (unit_a, keep_a), (unit_b, keep_b) = _directions(a), _directions(b)
    forward, backward = _nothing(unit_a), _nothing(unit_b)
    for start in range(0, len(unit_a), block):
        rows = slice(start, start + block)
        for other in range(0, len(unit_b), block):
            columns = slice(other, other + block)
            similarity = unit_a[rows] @ unit_b[columns].T
            if absolute:
                similarity.abs_()
            _improve(forward, rows, similarity.max(1), other)
            _improve(backward, columns, similarity.max(0), start)
    return BestMatches(
        *_spread(forward, len(a), keep_a, keep_b),
        *_spread(backward, len(b), keep_b, keep_a),
    )


def one_to_one(
    a: Float[Tensor, "n_a d"],
    b: Float[Tensor, "n_b d"],
    *,
    absolute: bool = False,
    exact: int = EXACT,
    block: int = BLOCK,
) -> Matching:
    """Return the one-to-one matching with the greatest total similarity.

    All rows of the smaller dictionary are matched. Up to ``exact`` rows, the Hungarian algorithm finds the best
    matching (arXiv 2501.16615, 2505.20254). Larger dictionaries are matched greedily: mutual nearest neighbours among
    the remaining rows are matched again and again until few rows are left, which the Hungarian algorithm matches. The
    total may then be below the greatest one. Rows that are still left after many rounds, as happens with thousands of
    equal rows, stay unmatched.

    Args:
        a: The rows of one dictionary.
        b: The rows of the other.
        absolute: Whether to ignore the sign of a cosine, so that opposite directions are equal.
        exact: The most rows for which the matching is exact.
        block: The number of rows of a block; ``block * block`` similarities are held at a time.
    """
    (unit_a, keep_a), (unit_b, keep_b) = _directions(a), _directions(b)
    index = np.full(len(a), -1, np.int64)
    similarity = np.full(len(a), np.nan)
    left_a, left_b = keep_a, keep_b  # the rows of a and of b that are not matched yet
    fits = max(len(left_a), len(left_b)) <= exact

    def assign(rows: Tensor, columns: Tensor, values: Tensor) -> None:
        where = left_a[rows].cpu().numpy()
        index[where] = left_b[columns].cpu().numpy()
        similarity[where] = values.double().cpu().numpy()

    for _ in range(0 if fits else _ROUNDS):
        best = best_matches(unit_a, unit_b, absolute=absolute, block=block)
        rows = torch.arange(len(unit_a), device=unit_a.device)
        mutual = best.backward_index[best.forward_index] == rows
        assign(rows[mutual], best.forward_index[mutual], best.forward[mutual])
        free = torch.ones(len(unit_b), dtype=torch.bool, device=unit_b.device)
        free[best.forward_index[mutual]] = False
        unit_a, left_a, unit_b, left_b = unit_a[~mutual], left_a[~mutual], unit_b[free], left_b[free]
        if min(len(unit_a), len(unit_b)) == 0 or max(len(unit_a), len(unit_b)) <= min(exact, _TAIL):
            break
    if min(len(unit_a), len(unit_b)) and max(len(unit_a), len(unit_b)) <= exact:
        rows, columns, values = _hungarian(unit_a, unit_b, absolute)
        assign(rows, columns, values)
    return Matching(index, similarity, fits)


def _hungarian(a: Tensor, b: Tensor, absolute: bool) -> tuple[Tensor, Tensor, Tensor]:
    if len(a) > len(b):  # scipy would copy the costs to transpose them
        columns, rows, values = _hungarian(b, a, absolute)
        return rows, columns, values
    similarity = (a @ b.T).cpu().numpy()
    cost = -(np.abs(similarity) if absolute else similarity).astype(np.float64)
    # This changes the total of every assignment by the same amount, and halves the time.
    cost -= cost.min(1, keepdims=True)
    if len(a) == len(b):
        cost -= cost.min(0)
    rows, columns = linear_sum_assignment(cost)
    values = similarity[rows, columns]
    results = (rows, columns, np.abs(values) if absolute else values)
    return tuple(torch.from_numpy(array).to(a.device) for array in results)  # type: ignore[return-value]


def _directions(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows that are not zeros, scaled to length one in float32, and their indices."""
    rows = rows.float()
    largest = rows.abs().amax(-1, keepdim=True)
    keep = (largest[:, 0] > 0).nonzero()[:, 0]
    # Rows are first divided by their largest entry, because squares of very small or large ones leave float32's range.
    return normalize(rows[keep] / largest[keep], dim=-1), keep


def _nothing(unit: Tensor) -> tuple[Tensor, Tensor]:
    values = torch.full((len(unit),), -torch.inf, device=unit.device)
    return values, torch.full((len(unit),), -1, dtype=torch.long, device=unit.device)


def _improve(best: tuple[Tensor, Tensor], where: slice, block_best: tuple[Tensor, Tensor], offset: int) -> None:
    """Replace the best similarities of earlier blocks, with their indices, where this block has better ones."""
    values, indices = best[0][where], best[1][where]  # views
    better = block_best[0] > values
    values[better] = block_best[0][better]
    indices[better] = block_best[1][better] + offset


def _spread(best: tuple[Tensor, Tensor], n: int, keep: Tensor, keep_other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matches of all ``n`` rows, given those between the rows ``keep`` and the rows ``keep_other``."""
    values = torch.full((n,), torch.nan, device=keep.device)
    indices = torch.full((n,), -1, dtype=torch.long, device=keep.device)
    if len(keep_other):
        values[keep], indices[keep] = best[0], keep_other[best[1]]
    return values, indices
