"""Whether two SAEs fail on the same tokens: the norm of one SAE's error predicted from that of the other's."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from saebench.stats.linear import cross_fitted
from saebench.stats.residuals import Ratio, ResidualSums
from saebench.tasks.dark_matter.scoring.evaluation import TokenErrors


def agreement(a: TokenErrors, b: TokenErrors, n_sequences: int) -> dict[str, Ratio]:
    """How well the errors of SAE ``a`` predict those of SAE ``b`` on the same tokens.

    ``||e_b||`` is predicted by a line from ``||e_a||``, and by a plane that also has the norm of the nonlinear error of
    a. Half of the sequences is predicted from a fit to the other half, and vice versa.

    Args:
        a: The errors that are predicted from.
        b: The errors that are predicted.
        n_sequences: The number of sequences that the tokens lie in.

    Returns:
        The numerator and the denominator of each sequence, by metric.
    """
    target = b.norms[:, :1]
    cut = int((a.sequence < n_sequences // 2).sum())
    sums = ResidualSums(n_sequences, 1, ("line", "plane"))
    line = target - cross_fitted(a.norms[:, :1], target, cut)
    plane = target - cross_fitted(torch.stack([a.norms[:, 0], a.nonlinear], -1), target, cut)
    sums.add(target, {"line": line, "plane": plane}, a.sequence)
    unexplained = sums.error("line")
    return {
        "agreement_r2": sums.r2("line"),
        "agreement_nonlinear_gain": (unexplained - sums.error("plane"), unexplained),
        "agreement_rank_correlation": rank_correlation(a.norms[:, 0], b.norms[:, 0], a.sequence, n_sequences),
    }


def rank_correlation(x: Tensor, y: Tensor, sequence: Tensor, n_sequences: int) -> Ratio:
    """Spearman's correlation as a ratio of sums over sequences; the ranks are those among all tokens.

    The denominator is the geometric mean of the two total sums of squared ranks. Each sequence gets its share of their
    arithmetic mean; the two means are equal unless values tie.

    Args:
        x: One value for each token.
        y: The other value for each token.
        sequence: The sequence of each token.
        n_sequences: The number of sequences.

    Returns:
        The numerator and the denominator of each sequence; zeros where all tokens tie.
    """
    ranks = [rankdata(values.numpy()) - (len(values) + 1) / 2 for values in (x, y)]
    totals = [float(np.sum(rank**2)) for rank in ranks]
    if min(totals) == 0:
        return np.zeros(n_sequences), np.zeros(n_sequences)
    scale = np.sqrt(totals[0] * totals[1]) / (totals[0] + totals[1])

    def per_sequence(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(sequence.numpy(), values, minlength=n_sequences).astype(np.float64)

    return per_sequence(ranks[0] * ranks[1]), per_sequence(scale * (ranks[0] ** 2 + ranks[1] ** 2))
