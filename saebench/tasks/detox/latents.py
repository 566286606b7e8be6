"""Toxic latents, found by how well they tell toxic from neutral texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from saebench.passes.activity import Activity
from saebench.stats.selection import auroc, frequency_matched

Pooling = Literal["max", "mean"]
POOLINGS: tuple[Pooling, ...] = ("max", "mean")  # of a latent over a text's tokens


@dataclass(frozen=True, eq=False)
class LatentSet:
    """Some latents and the mean of each where it fires, on the texts that latents are selected on."""

    indices: list[int]
    scales: list[float]

    def __len__(self) -> int:
        return len(self.indices)

    def score(self, activity: Activity, pooling: Pooling) -> NDArray[np.float64]:
        """``[texts]``: each latent's pooled activation in units of its scale, averaged over the set; 0 for none."""
        if not self.indices:
            return np.zeros(len(activity.tokens))
        return (pooled(activity, pooling)[:, self.indices].toarray() / np.array(self.scales)).mean(1)


@dataclass(frozen=True, eq=False)
class Found:
    """The toxic latents of an SAE, and what the selection saw."""

    chosen: LatentSet
    passed: int  # latents that reach the least AUROC on the texts to fit on
    fit_auroc: list[float]  # of the chosen
    validation_auroc: dict[int, float]  # of sets, by their number of latents


def pooled(activity: Activity, pooling: Pooling) -> sparse.csr_matrix:
    """One number per text and latent, ``[texts, d_sae]``: its maximum, or its mean over all tokens of the text."""
    if pooling == "max":
        return activity.maximum
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(activity.tokens, 1)) @ activity.total)


def find_toxic(
    fit: Activity,
    fit_toxic: NDArray[np.bool_],
    validation: Activity,
    validation_toxic: NDArray[np.bool_],
    *,
    numbers: Sequence[int],
    min_auroc: float,
    pooling: Pooling,
) -> Found:
    """The best latents by AUROC on ``fit``, of ``min_auroc`` at least; how many of ``numbers``, by that of the set.

    The set's AUROC is that on ``validation``; of sets that tell texts apart equally well the smallest is taken.
    """
    of_latents = auroc(pooled(fit, pooling), fit_toxic)
    order = np.argsort(-of_latents, kind="stable")
    passed = order[of_latents[order] >= min_auroc]
    by_number: dict[int, float] = {}
    for n in sorted({min(n, len(passed)) for n in numbers} - {0}):
        scores = latent_set(fit, passed[:n]).score(validation, pooling)
        by_number[n] = float(auroc(scores[:, None], validation_toxic)[0])
    best = max(by_number, key=lambda n: (by_number[n], -n), default=0)
    chosen = latent_set(fit, passed[:best])
    return Found(chosen, len(passed), of_latents[chosen.indices].tolist(), by_number)


def latent_set(fit: Activity, indices: NDArray[np.int64]) -> LatentSet:
    return LatentSet(indices.tolist(), fit.mean_when_firing()[indices].tolist())


def matched_set(fit: Activity, chosen: LatentSet, rng: np.random.Generator) -> LatentSet:
    """As many other latents that fire about as often. Raises DataError when the SAE has too few others."""
    indices = np.array(chosen.indices, dtype=np.int64)
    return latent_set(fit, frequency_matched(fit.token_rate(), indices, rng))


def placements(scores: NDArray[np.float64], toxic: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Contributions to the AUROC of ``scores``, one for each toxic text and the neutral one at the same place.

    Their mean is the AUROC and their spread that of DeLong's estimate: the share of neutral texts below the toxic one,
    plus the share of toxic texts above the neutral one, minus the AUROC; ties count half. As many of each are needed.
    """
    bad, good = scores[toxic], scores[~toxic]
    n = len(bad)
    ranks = rankdata(np.concatenate([bad, good]))
    below = (ranks[:n] - rankdata(bad)) / n  # neutral texts below each toxic one
    above = 1 - (ranks[n:] - rankdata(good)) / n
    return below + above - below.mean()
