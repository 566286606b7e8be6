"""The latents that a k-sparse probe reads: those whose means differ most between the classes (arXiv 2502.16681)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Ranking = Literal["mean_difference", "normalised"]

# Scores that differ by less than this share of themselves differ by rounding, as that of a rescaled latent does.
_ROUNDING = 2**-16
_GOLDEN = (5**0.5 - 1) / 2


def rank_latents(
    values: Tensor, indices: Tensor | None, y: Tensor, rows: Tensor, d_sae: int, k: int, ranking: Ranking
) -> Tensor:
    """Return the ``min(k, d_sae)`` latents whose means differ most between positives and negatives, best first.

    They have the largest ``|mean over positives - mean over negatives|``. Many latents that fire on one example only
    tie. Their values alone break ties, and never their numbers, which mean nothing: the latent that fires on more
    examples comes first, then the one that is decided by which examples these are, then the one with the larger values.

    Args:
        values: The latents' values: dense, ``[n, d_sae]``, or sparse, ``[n, slots]``.
        indices: The latents of sparse values, ``[n, slots]``, or None for dense values.
        y: Whether each example is positive, ``[n]`` bool.
        rows: The examples that count, ``[n]`` bool.
        d_sae: The number of latents.
        k: The number of latents to return.
        ranking: "normalised" divides each latent by the mean of its absolute values that are not zero, so that the
            scale of a latent does not matter.
    """
    values, labels = values[rows].double(), y[rows]
    where = indices[rows] if indices is not None else None
    counts = torch.stack([(~labels).sum(), labels.sum()]).clamp(min=1)
    sums = torch.stack([_sums(values[labels == side], _rows(where, labels == side), d_sae) for side in (False, True)])
    difference = (sums[1] / counts[1] - sums[0] / counts[0]).abs()
    total = _sums(values.abs(), where, d_sae)
    fires = _sums((values != 0).double(), where, d_sae)
    known = total.clamp(min=torch.finfo(total.dtype).tiny)
    if ranking == "normalised":
        difference = torch.where(total > 0, difference * fires / known, 0)
    # The examples have different weights, which tell sets of examples from each other.
    weight = (torch.arange(1, len(values) + 1, device=values.device, dtype=values.dtype) * _GOLDEN).frac()
    centre = _sums(values.abs() * weight[:, None], where, d_sae) / known
    order = torch.arange(d_sae, device=values.device)
    for key in (total, _rounded(centre), fires, _rounded(difference)):
        order = order[key[order].argsort(descending=True, stable=True)]
    return order[:k]


def columns(values: Tensor, indices: Tensor | None, latents: Tensor, d_sae: int) -> Tensor:
    """Return the values ``[n, k]`` of ``latents[k]``, for sparse or dense codes as `rank_latents` takes them."""
    if indices is None:
        return values[:, latents]
    k = len(latents)
    place = torch.full((d_sae,), k, device=values.device)
    place[latents] = torch.arange(k, device=values.device)
    wanted = values.new_zeros(len(values), k + 1)  # values of all other latents go into the last column
    # Values are added, because an unused slot may name a latent that another slot holds.
    return wanted.scatter_add_(1, place[indices], values)[:, :k]


def _rounded(values: Tensor) -> Tensor:
    """Return numbers without the digits that rounding decides. Binary fractions such as 1 / 64 stay what they are."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa / _ROUNDING).round() * _ROUNDING, exponent)


def _rows(indices: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if indices is None else indices[rows]


def _sums(values: Tensor, indices: Tensor | None, d_sae: int) -> Tensor:
    """Return the sum of each latent over the examples, ``[d_sae]``."""
    if indices is None:
        return values.sum(0)
    total = torch.zeros(d_sae, dtype=values.dtype, device=values.device)
    return total.index_add_(0, indices.flatten(), values.flatten())
