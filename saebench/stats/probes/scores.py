"""Scores of binary classifiers for many problems ``[..., n]`` at once, with a mask of the rows that count."""

from __future__ import annotations

import torch
from torch import Tensor


def auc(scores: Tensor, y: Tensor, rows: Tensor) -> Tensor:
    """Return the area under the ROC curve, ``[...]``: P(positive > negative) + P(equal) / 2 (Mann-Whitney).

    It is NaN if the rows have one class only, or if one of their scores is not finite.

    Args:
        scores: The scores, ``[..., n]``.
        y: The labels as bool, which broadcast against ``scores``.
        rows: The rows that count as bool, which broadcast against ``scores``.
    """
    y, rows = y.expand(scores.shape), rows.expand(scores.shape)
    ordered = torch.where(rows, scores.double(), torch.inf).contiguous()
    ascending = ordered.sort(-1).values
    below = torch.searchsorted(ascending, ordered, right=False)
    upto = torch.searchsorted(ascending, ordered, right=True)
    ranks = (below + upto + 1).double() / 2  # equal scores share their mean rank
    positive = rows & y
    n_positive = positive.sum(-1).double()
    n_negative = (rows & ~y).sum(-1).double()
    area = ((ranks * positive).sum(-1) - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    return torch.where((rows & ~scores.isfinite()).any(-1), torch.nan, area)


def accuracy(predicted: Tensor, y: Tensor, rows: Tensor) -> Tensor:
    """Return the share of ``rows`` on which ``predicted[..., n]`` (bool) is right; NaN if there are no rows."""
    return ((predicted == y) & rows).sum(-1).double() / rows.expand(predicted.shape).sum(-1)


def weighted_f1(predicted: Tensor, y: Tensor, rows: Tensor) -> Tensor:
    """Return the mean of the classes' F1, weighted by their shares of ``rows``; NaN if there are no rows.

    This is scikit-learn's ``average="weighted"``; as there, a class with neither examples nor predictions has F1 = 0.
    """
    rows = rows.expand(predicted.shape)
    total = torch.zeros(predicted.shape[:-1], dtype=torch.float64, device=predicted.device)
    for side in (True, False):
        is_side, predicted_side = (y == side) & rows, (predicted == side) & rows
        size = is_side.sum(-1)
        f1 = 2.0 * (is_side & predicted_side).sum(-1) / (size + predicted_side.sum(-1)).clamp(min=1)
        total += f1 * size
    return total / rows.sum(-1)
