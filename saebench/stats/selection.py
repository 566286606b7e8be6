"""The choice of latents to act on: latents that tell two kinds of text apart, and random ones as a control."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_matrix, csr_matrix, issparse
from scipy.stats import rankdata

from saebench.errors import DataError

_NEAREST = 10  # the number of latents with the nearest firing rates, among which one is drawn
_LOWEST_FORGET = 5  # the percentile of forget scores below which a latent is left out (DSG's code)
_NEVER = 1e-21  # added to retain scores (DSG's code), so that a latent that never fires there has a finite ratio
_BLOCK = 2**22  # the number of entries that are sorted at a time


def sparsity_ratio(
    forget_rate: ArrayLike, retain_rate: ArrayLike, *, retain_threshold: float, n: int, ties: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return the latents that fire most often on forget texts among those that rarely fire on retained texts.

    This is the selection of SAEBench and arXiv 2410.19278. The most frequent latents come first. Latents that never
    fire on the forget texts are left out, since changing them would change nothing. The result may be empty.

    Args:
        forget_rate: The share of the forget texts' tokens on which each latent fires, ``[d_sae]``.
        retain_rate: The same share for the retained texts, ``[d_sae]``.
        retain_threshold: A latent must fire on less than this share of the retained tokens.
        n: The most latents to return.
        ties: A number of each latent, such as its mean activation, ``[d_sae]``: of latents that fire equally often, the
            one with the highest comes first. The order of the latents themselves should not decide.
    """
    forget, retain = np.asarray(forget_rate, np.float64), np.asarray(retain_rate, np.float64)
    return _largest(forget, (retain < retain_threshold) & (forget > 0), n, ties)


def squared_mean_ratio(
    forget_mean: ArrayLike, retain_mean: ArrayLike, *, ratio_percentile: float = 95, n: int
) -> NDArray[np.int64]:
    """Return the latents whose squared mean activation is high on forget texts and relative to retained texts.

    This is the selection of DSG (arXiv 2504.08192) as its code makes it. A latent's score s is the square of its mean
    activation. A latent is kept if its forget score is at or above the 5th percentile, and its ratio
    s_forget / (s_retain + 1e-21) at or above ``ratio_percentile``; percentiles are over all latents. The highest forget
    scores come first. Latents that never fire on the forget texts are left out. The result may be empty.

    Args:
        forget_mean: The mean activation of each latent on the forget texts, ``[d_sae]``.
        retain_mean: The mean activation of each latent on the retained texts, ``[d_sae]``.
        ratio_percentile: The percentile of the ratios that a latent must reach.
        n: The most latents to return.
    """
    forget, retain = np.square(np.asarray(forget_mean, np.float64)), np.square(np.asarray(retain_mean, np.float64))
    ratio = forget / (retain + _NEVER)
    kept = (forget >= np.percentile(forget, _LOWEST_FORGET)) & (ratio >= np.percentile(ratio, ratio_percentile))
    return _largest(forget, kept & (forget > 0), n)


def mean_difference(forget_mean: ArrayLike, retain_mean: ArrayLike, *, n: int) -> NDArray[np.int64]:
    """Return the latents whose mean activation is most above that on retained texts.

    In units of decoder rows of length 1, these are the latents that contribute most to the difference in means of the
    SAE's reconstructions. A latent that also fires weakly elsewhere can be among them; the rules of firing rates leave
    it out. The greatest difference comes first, and latents without one above 0 are left out.

    Args:
        forget_mean: The mean activation of each latent on the forget texts, ``[d_sae]``.
        retain_mean: The mean activation of each latent on the retained texts, ``[d_sae]``.
        n: The most latents to return.
    """
    difference = np.asarray(forget_mean, np.float64) - np.asarray(retain_mean, np.float64)
    return _largest(difference, difference > 0, n)


def auroc(scores: csr_matrix | NDArray[np.floating], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each column, ``[columns]``: P(positive > negative) + P(equal) / 2.

    Args:
        scores: The scores ``[rows, columns]``. Entries that a sparse matrix does not hold are 0, and they tie.
        labels: Whether each row is positive, ``[rows]``.

    Raises:
        DataError: All rows have the same class, or a score is NaN.
    """
    labels = np.asarray(labels, bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        raise DataError("An AUROC compares two classes, but one of them has no example; give examples of both.")
    columns = scores.shape[1]
    table = csc_matrix(scores) if issparse(scores) else np.asarray(scores)
    step = max(1, _BLOCK // max(1, len(labels)))
    blocks = [_auroc(csc_matrix(table[:, start : start + step]), labels) for start in range(0, columns, step)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def frequency_matched(
    rates: ArrayLike, chosen: NDArray[np.int64], rng: np.random.Generator, *, ties: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return, for each chosen latent, another one that fires about as often, as a control.

    Each is drawn from the ten latents nearest in firing rate that are neither chosen nor drawn yet. Latents that never
    fire are taken last, because changing them would change nothing.

    Args:
        rates: The firing rate of each latent, ``[d_sae]``.
        chosen: The numbers of the chosen latents.
        rng: The random generator.
        ties: A number of each latent, such as its mean activation, ``[d_sae]``, which orders latents of equal distance,
            so that the same generator draws the same latents when they are numbered otherwise.

    Raises:
        DataError: There are fewer other latents than chosen ones.
    """
    rates = np.asarray(rates, np.float64)
    free = np.ones(len(rates), bool)
    free[chosen] = False
    if free.sum() < len(chosen):
        raise DataError(
            f"{len(chosen)} of {len(rates)} latents are chosen, which leaves too few others to compare them with; "
            "choose fewer."
        )
    drawn = []
    key = _tie_breaker(ties, len(rates))
    for latent in chosen:
        others = np.flatnonzero(free)
        distance = np.where(rates[others] > 0, np.abs(rates[others] - rates[latent]), np.inf)
        nearest = others[np.lexsort((-key[others], distance))[:_NEAREST]]
        drawn.append(rng.choice(nearest))
        free[drawn[-1]] = False
    return np.array(drawn, np.int64)


def _largest(
    scores: NDArray[np.float64], kept: NDArray[np.bool_], n: int, ties: ArrayLike | None = None
) -> NDArray[np.int64]:
    latents, key = np.flatnonzero(kept), _tie_breaker(ties, len(scores))
    return latents[np.lexsort((-key[latents], -scores[latents]))[:n]].astype(np.int64)


def _tie_breaker(ties: ArrayLike | None, n: int) -> NDArray[np.float64]:
    return np.zeros(n) if ties is None else np.asarray(ties, np.float64)


def auroc_contributions(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> NDArray[np.float64]:
    """Contributions to the AUROC of scores of positive against negative texts, of which there are as many: ``[pairs]``.

    The contribution of a pair, the texts at the same place of the two lists, is the share of negative texts below the
    positive one, plus the share of positive texts above the negative one, minus the AUROC; ties count half. So their
    mean is the AUROC, and their spread is that of DeLong's estimate.
    """
    n = len(positive)
    ranks = rankdata(np.concatenate([positive, negative]))
    below = (ranks[:n] - rankdata(positive)) / n  # negative texts below each positive one
    above = 1 - (ranks[n:] - rankdata(negative)) / n  # positive texts above each negative one
    contributions: NDArray[np.float64] = below + above - below.mean()
    return contributions


def _auroc(table: csc_matrix, labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return `auroc` of some columns. It sorts their entries, and the zeros of a column are one entry with a weight."""
    columns = table.shape[1]
    filled = np.repeat(np.arange(columns), np.diff(table.indptr))
    positive = labels[table.indices]
    held = [np.bincount(filled[positive == kind], minlength=columns) for kind in (True, False)]
    column = np.concatenate([filled, np.arange(columns)])
    value = np.concatenate([table.data, np.zeros(columns, table.data.dtype)])
    up = np.concatenate([positive, labels.sum() - held[0]]).astype(np.float64)
    down = np.concatenate([~positive, (~labels).sum() - held[1]]).astype(np.float64)
    if np.isnan(value).any():
        raise DataError("Some scores are NaN, so they cannot be ranked; leave those columns out.")
    order = np.lexsort((value, column))
    column, value, up, down = column[order], value[order], up[order], down[order]
    new = np.ones(len(column), bool)
    new[1:] = (column[1:] != column[:-1]) | (value[1:] != value[:-1])
    starts = np.flatnonzero(new)
    column, up, down = column[starts], np.add.reduceat(up, starts), np.add.reduceat(down, starts)
    # All columns have the same number of negatives, so the part of the running sum before a column is known exactly.
    below = np.cumsum(down) - down - column * float((~labels).sum())
    wins = np.bincount(column, up * (below + down / 2), minlength=columns)
    return wins / (float(labels.sum()) * float((~labels).sum()))
