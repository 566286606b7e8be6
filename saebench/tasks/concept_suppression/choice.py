"""Which latents belong to a concept, by the examples to fit on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from saebench.passes.activity import Activity
from saebench.stats.divergence import adjusted, histogram_chance, histogram_divergences
from saebench.stats.histogram import Activations, quantile_bins
from saebench.tasks.concept_separability.estimators import PER_BIN

SELECTIONS = ("separability", "saliency")
_BINS = 16
_BLOCK = 2**14  # latents at a time


def ranked_latents(activity: Activity, labels: NDArray[np.int64], by: str) -> list[NDArray[np.int64]]:
    """The latents of each concept, best first; none where no latent qualifies.

    ``activity`` is that of equally many examples of each concept; a latent's activation on an example is its mean
    over the tokens.

    * ``separability``: by the divergence A_jc of concept and rest (the score of the task concept_separability), among
      latents that tell them apart better than by chance and whose mean absolute activation is larger on the concept
      than on the others. Without the second condition latents of the *other* concepts would be chosen, too.
    * ``saliency``: by the mean absolute activation on the concept (2502.06809), among latents that are active there.
    """
    n_classes = int(labels.max()) + 1
    pooled = activity.total.multiply(1 / activity.tokens[:, None]).tocsr()
    member = np.eye(n_classes)[labels]
    mean = (abs(pooled).T @ member / member.sum(0)).T  # [concepts, latents]
    if by == "saliency":
        scores, candidates = mean, mean > 0
    else:
        scores = _separability(pooled, labels, n_classes)
        others = (mean.sum(0) - mean) / (n_classes - 1)
        candidates = (scores > 0) & (mean > others)
    found = []
    for score, candidate in zip(scores, candidates, strict=True):
        latents = np.flatnonzero(candidate)
        found.append(latents[np.argsort(-score[latents], kind="stable")])
    return found


def _separability(pooled: object, labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """A_jc, ``[concepts, latents]``: 0 on average without signal, and for latents that are never active."""
    table = pooled.tocoo()  # type: ignore[attr-defined]
    kept = table.data != 0
    n_examples, n_latents = table.shape
    every = Activations(
        torch.from_numpy(table.col[kept].astype(np.int64)),
        torch.from_numpy(table.row[kept].astype(np.int64)),
        torch.from_numpy(table.data[kept].astype(np.float32)),
        n_latents,
        n_examples,
    )
    alive = every.active > 0
    living = every.of_latents(alive)
    scores = np.zeros((n_classes, n_latents))
    where = np.flatnonzero(alive.numpy())
    for start in range(0, len(where), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(where)))
        bins = quantile_bins(living.latents(block), _BINS, PER_BIN)
        counts, per_class = bins.counts(torch.from_numpy(labels), n_classes), n_examples // n_classes
        found = histogram_divergences(bins, counts, per_class), histogram_chance(bins, counts, per_class)
        scores[:, where[block]] = adjusted(*found, n_classes).rest.numpy().T
    return scores
