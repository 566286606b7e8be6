"""Which latents are changed, by what they do on the split ``fit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from saebench.passes.activity import activity
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.selection import mean_difference, sparsity_ratio, squared_mean_ratio
from saebench.tasks.unlearning.data.documents import documents
from saebench.tasks.unlearning.settings import SelectionRule, UnlearningSettings

LatentIndices = NDArray[np.int64]  # the best first


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class LatentStatistics:
    """What each latent does on the documents to fit on."""

    forget_rate: Float[np.ndarray, " d_sae"]  # share of the forget side's tokens at which it fires
    retain_rate: Float[np.ndarray, " d_sae"]
    forget_mean: Float[np.ndarray, " d_sae"]  # mean over the forget side's tokens
    retain_mean: Float[np.ndarray, " d_sae"]
    size: Float[np.ndarray, " d_sae"]  # mean over the forget side's tokens at which it fires; 0 if there are none

    @property
    def rate(self) -> Float[np.ndarray, " d_sae"]:
        """The share of tokens at which each latent fires; both sides count the same."""
        return (self.forget_rate + self.retain_rate) / 2

    @property
    def mean(self) -> Float[np.ndarray, " d_sae"]:
        """The mean of each latent over tokens, both sides alike, by which ties and random draws are ordered.

        The order in which an SAE numbers its latents then decides nothing.
        """
        return (self.forget_mean + self.retain_mean) / 2

    def select(self, rule: SelectionRule, n: int, settings: UnlearningSettings) -> LatentIndices:
        """The best ``n`` latents by a rule; fewer, or none, where fewer pass it."""
        if rule == "sparsity_ratio":
            rates, threshold = (self.forget_rate, self.retain_rate), settings.retain_threshold
            return sparsity_ratio(*rates, retain_threshold=threshold, n=n, ties=self.forget_mean)
        if rule == "mean_difference":
            return mean_difference(self.forget_mean, self.retain_mean, n=n)
        percentile = settings.ratio_percentile
        return squared_mean_ratio(self.forget_mean, self.retain_mean, ratio_percentile=percentile, n=n)


def latent_statistics(sae: SAE, context: TaskContext, settings: UnlearningSettings) -> LatentStatistics:
    """Encode the documents to fit on. Raises what `saebench.passes.activity.activity` raises."""
    fit = documents(context, settings)["fit"]
    forget, retain = (activity(sae, context, texts, settings.context_length) for texts in (fit.forget, fit.retain))
    return LatentStatistics(
        forget_rate=forget.token_rate(),
        retain_rate=retain.token_rate(),
        forget_mean=forget.mean(),
        retain_mean=retain.mean(),
        size=forget.mean_when_firing(),
    )


def selections(
    statistics: LatentStatistics, rules: Sequence[SelectionRule], settings: UnlearningSettings
) -> list[tuple[str, LatentIndices]]:
    """Select latents by each rule and each number of ``settings.latents``, from the smallest.

    Returns:
        Labels that name the rule and the number that was asked for, with the selected latents.
    """
    numbers = sorted(set(settings.latents))
    return [(f"{rule}, {n} latents", statistics.select(rule, n, settings)) for rule in rules for n in numbers]


def guiding_latents(statistics: LatentStatistics, settings: UnlearningSettings) -> tuple[LatentIndices, LatentIndices]:
    """The ``settings.sspu_latents`` most and least relevant latents, whose subspaces guide SSPU (2505.24428).

    The relevant ones are the best by ``sparsity_ratio``. The irrelevant ones fire on the retain side, and least often
    on the forget side; of latents that are equal in this, those come first that fire most often on the retain side.
    """
    relevant = statistics.select("sparsity_ratio", settings.sspu_latents, settings)
    ranked = np.lexsort((-statistics.retain_mean, -statistics.retain_rate, statistics.forget_rate))
    irrelevant = ranked[(statistics.retain_rate[ranked] > 0) & ~np.isin(ranked, relevant)]
    return relevant, irrelevant[: settings.sspu_latents].astype(np.int64)
