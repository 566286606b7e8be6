"""Which latents belong to a concept, by the examples to fit on, and which setting validation chooses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from saebench.evaluation.changes import Setting
from saebench.passes.activity import Activity
from saebench.stats.divergence import adjusted, histogram_chance, histogram_divergences
from saebench.stats.histogram import PER_BIN, Activations, quantile_bins
from saebench.tasks.concept_suppression.scoring.outcome import Array, Design, Outcome
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings, LatentScore

_BINS = 16
_BLOCK = 2**14  # latents that are scored at a time
_ROUNDING = 1e-9


def ranked_latents(activity: Activity, labels: NDArray[np.int64], by: LatentScore) -> list[NDArray[np.int64]]:
    """Return the latents of each concept, best first; the list of a concept is empty where no latent qualifies.

    A latent's activation on an example is its mean over the tokens.

    ``separability`` ranks by the divergence A_jc of concept and rest, which is the score of the task
    concept_separability. A latent qualifies if its divergence is above chance and its mean absolute activation is
    larger on the concept than on the others. Without the second condition a latent that belongs to another concept,
    and is silent on this one, would qualify as well.

    ``saliency`` ranks by the mean absolute activation on the concept (2502.06809). A latent that is active there
    qualifies.

    Args:
        activity: The latents on examples, of which each concept has the same number.
        labels: The concept of each example, ``[examples]``.
        by: The score.
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
    ranked = []
    for score, candidate, size in zip(scores, candidates, mean, strict=True):
        latents = np.flatnonzero(candidate)
        # Of equal scores, the larger mean activation comes first; the numbers of latents decide nothing.
        ranked.append(latents[np.lexsort((-size[latents], -score[latents].round(9)))])
    return ranked


def best_setting(outcomes: Mapping[str, Outcome], design: Design, settings: ConceptSuppressionSettings) -> Setting:
    """Return the setting with the largest drop of confidence in the target among those that do little else.

    Doing little else means a complement drop of at most ``max_complement_drop`` and a perplexity ratio of at most
    ``max_perplexity_ratio``; all are means over concepts. Confidence decides because it is continuous, whereas most
    settings lose equally many of a few examples. Equal drops are told apart by the drop of accuracy, then by the
    perplexity. Changing nothing is always allowed; where it is chosen, the setting has no strength, and the method is
    the first.

    Args:
        outcomes: The outcome of each method on the validation split.
        design: The design of that split.
        settings: Holds the limits.
    """
    best, best_key = Setting(next(iter(outcomes)), None), (0.0, 0.0, 0.0)
    for method, outcome in outcomes.items():
        drop, confidence = (
            design.by_concept(values, "target").mean(-1) for values in (outcome.accuracy, outcome.confidence)
        )
        complement = design.by_concept(outcome.accuracy, "complement").mean(-1)
        log_ratio = design.log_ratio(outcome.nats).mean(-1)
        harmless = complement <= settings.max_complement_drop + _ROUNDING
        fluent = log_ratio <= np.log(settings.max_perplexity_ratio) + _ROUNDING
        for place in np.flatnonzero(harmless & fluent):
            key = (round(float(confidence[place]), 9), float(drop[place]), -float(log_ratio[place]))
            if key > best_key:
                best, best_key = Setting(method, outcome.strengths[place] or None), key
    return best


def _separability(pooled: csr_matrix, labels: NDArray[np.int64], n_classes: int) -> Array:
    """A_jc, ``[concepts, latents]``: 0 on average without signal, and 0 for latents that are never active."""
    table = pooled.tocoo()
    kept = table.data != 0
    n_examples, n_latents = table.shape
    activations = Activations(
        torch.from_numpy(table.col[kept].astype(np.int64)),
        torch.from_numpy(table.row[kept].astype(np.int64)),
        torch.from_numpy(table.data[kept].astype(np.float32)),
        n_latents,
        n_examples,
    )
    alive = activations.active > 0
    living = activations.of_latents(alive)
    scores = np.zeros((n_classes, n_latents))
    where = np.flatnonzero(alive.numpy())
    for start in range(0, len(where), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(where)))
        bins = quantile_bins(living.latents(block), _BINS, PER_BIN)
        counts, per_class = bins.counts(torch.from_numpy(labels), n_classes), n_examples // n_classes
        plug_in, chance = (f(bins, counts, per_class) for f in (histogram_divergences, histogram_chance))
        scores[:, where[block]] = adjusted(plug_in, chance, n_classes).rest.numpy().T
    return scores
