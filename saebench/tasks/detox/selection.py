"""Which latents count as toxic, and which tier and strength of steering are chosen on the validation texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saebench.evaluation.changes import Setting
from saebench.passes.activity import Activity
from saebench.stats.selection import auroc, frequency_matched
from saebench.tasks.detox.scoring.likelihood import Tried
from saebench.tasks.detox.settings import DetoxSettings, Pooling

FIRES: Pooling = "fires"
MAXIMUM: Pooling = "max"


@dataclass(frozen=True, eq=False)
class LatentSet:
    """Some latents, and how large they are on the texts to fit on."""

    indices: list[int]
    scales: list[float]  # the mean of each latent over the tokens at which it fires

    def __len__(self) -> int:
        return len(self.indices)

    def score(self, activity: Activity, pooling: Pooling) -> NDArray[np.float64]:
        """Return the share of the set that fires in each text, ``[texts]``.

        With another pooling it is the mean over the set of each latent's pooled activation divided by its scale. An
        empty set scores 0 on every text.
        """
        if not self.indices:
            return np.zeros(len(activity.tokens))
        if pooling == "fires":
            return np.asarray(pooled(activity, pooling)[:, self.indices].mean(1), np.float64).ravel()
        return (pooled(activity, pooling)[:, self.indices].toarray() / np.array(self.scales)).mean(1)


@dataclass(frozen=True, eq=False)
class ToxicLatents:
    """The toxic latents of an SAE, and what their selection was based on."""

    latents: LatentSet
    passed: int  # number of latents that reach `min_auroc` on the texts to fit on
    fit_auroc: list[float]  # AUROC of each selected latent
    validation_auroc: dict[int, float]  # AUROC of each set that was tried, by its number of latents


def pooled(activity: Activity, pooling: Pooling) -> sparse.csr_matrix:
    """Return whether each latent fires in each text, or its maximum or mean over the tokens, ``[texts, d_sae]``.

    Whether it fires is 1 or 0, so a latent that is active in every text says nothing.
    """
    if pooling == "fires":
        return (activity.firing > 0).astype(np.float32)
    if pooling == "max":
        return activity.maximum
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(activity.tokens, 1)) @ activity.total)


def select_toxic(
    fit: Activity,
    fit_toxic: NDArray[np.bool_],
    validation: Activity,
    validation_toxic: NDArray[np.bool_],
    settings: DetoxSettings,
) -> ToxicLatents:
    """Select the latents that tell toxic from neutral texts best.

    Latents are ranked by their AUROC on the texts to fit on, and those below ``min_auroc`` are left out. The setting
    ``latents`` lists how many of the first ones may be taken: the set with the highest AUROC on the validation texts
    is selected, and the smallest where several have the same.

    Args:
        fit: What the latents do on the texts to fit on.
        fit_toxic: Which of these texts are toxic, ``[texts]``.
        validation: What the latents do on the validation texts.
        validation_toxic: Which of these texts are toxic, ``[texts]``.
        settings: The numbers of latents, the lowest AUROC and the pooling.

    Returns:
        The selected latents; none where no latent reaches ``min_auroc``.
    """
    by_latent = auroc(pooled(fit, settings.pooling), fit_toxic)
    order = np.lexsort((-fit.mean(), -by_latent))  # latents with equal AUROCs are told apart by their activation
    passed = order[by_latent[order] >= settings.min_auroc]
    by_number: dict[int, float] = {}
    for n in sorted({min(n, len(passed)) for n in settings.latents} - {0}):
        scores = latent_set(fit, passed[:n]).score(validation, settings.pooling)
        by_number[n] = float(auroc(scores[:, None], validation_toxic)[0])
    best = max(by_number, key=lambda n: (by_number[n], -n), default=0)
    latents = latent_set(fit, passed[:best])
    return ToxicLatents(latents, len(passed), by_latent[latents.indices].tolist(), by_number)


def latent_set(fit: Activity, indices: NDArray[np.int64]) -> LatentSet:
    """Return the latents ``indices`` with their mean activations on the texts to fit on."""
    return LatentSet(indices.tolist(), fit.mean_when_firing()[indices].tolist())


def with_pooling(settings: DetoxSettings, pooling: Pooling) -> DetoxSettings:
    """Return the settings with another pooling."""
    return settings.model_copy(update={"pooling": pooling})


def matched_set(fit: Activity, toxic: LatentSet, rng: np.random.Generator) -> LatentSet:
    """Draw as many other latents that fire about as often. Raises DataError when the SAE has too few others."""
    indices = np.array(toxic.indices, dtype=np.int64)
    return latent_set(fit, frequency_matched(fit.token_rate(), indices, rng, ties=fit.mean()))


def choose(tried: Sequence[Tried], settings: DetoxSettings) -> list[Setting]:
    """Return each sweep at the strength with the largest gap within the limit, the largest gap first.

    A sweep that has no gap above 0 at any strength gets the strength None.
    """
    best = {one.sweep.method: one.best(settings.max_loss_rise) for one in tried}
    order = sorted(best, key=lambda method: -best[method][1])
    return [Setting(method, best[method][0] if best[method][1] > 0 else None) for method in order]
