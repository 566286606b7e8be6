"""Latents of an SAE, or neurons, by concept, and the methods that act on them; and the direction that needs neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.interventions.base import Intervention
from saebench.interventions.vectors import DirectionalAblation
from saebench.passes.activity import activity, mean_activations
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.selection import frequency_matched
from saebench.tasks.concept_suppression.bench import Method
from saebench.tasks.concept_suppression.choice import ranked_latents
from saebench.tasks.concept_suppression.data import ConceptSplit
from saebench.tasks.concept_suppression.methods import TokenValues

Latents = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Basis:
    """The latents of one SAE that belong to each concept of each set, best first, by the examples to fit on."""

    sae: SAE
    splits: Sequence[ConceptSplit]
    context: TaskContext
    parameters: dict[str, Any]
    ranked: list[list[Latents]]  # [sets][concepts]
    rates: list[NDArray[np.float64]]  # [sets]: share of the tokens at which each latent fires

    @classmethod
    def of(cls, sae: SAE, splits: Sequence[ConceptSplit], context: TaskContext, parameters: dict[str, Any]) -> Basis:
        """Encode the examples and rank latents. Raises SaebenchError when the SAE gives NaN or Inf."""
        ranked, rates = [], []
        for split in splits:
            found = activity(sae, context, split.fit.texts, parameters["context_length"])
            ranked.append(ranked_latents(found, split.fit.labels, parameters["selection"]))
            rates.append(found.token_rate())
        return cls(sae, splits, context, parameters, ranked, rates)

    def methods(self, names: Sequence[str], counts: Sequence[int], prefix: str = "") -> list[Method]:
        """Each method on the best latents of each concept, in each number (or all, where there are fewer)."""
        return self._methods(self.ranked, names, counts, prefix)

    def matched(self, name: str, count: int) -> Method:
        """A method on other latents that fire about as often as the best ones; at most half of all."""
        others = []
        for number, (ranked, rates) in enumerate(zip(self.ranked, self.rates, strict=True)):
            rng = self.context.rng(f"concept_suppression:random:{number}")
            most = min(count, self.sae.d_sae // 2)
            others.append([frequency_matched(rates, latents[:most], rng) for latents in ranked])
        return self._methods(others, [name], [count], "")[0]

    def count(self, most: int) -> int:
        """How many latents all concepts together have among their best ``most``."""
        return sum(min(most, len(latents)) for ranked in self.ranked for latents in ranked)

    def _methods(
        self, ranked: list[list[Latents]], names: Sequence[str], counts: Sequence[int], prefix: str
    ) -> list[Method]:
        nothing: dict[str, Intervention | None] = dict.fromkeys(names)
        by_count: list[list[dict[str, Intervention | None]]] = [[] for _ in counts]  # [counts][concepts]
        for split, of_set in zip(self.splits, ranked, strict=True):
            wanted = np.concatenate([latents[: max(counts)] for latents in of_set])
            length = self.parameters["context_length"]
            values = TokenValues.of(self.sae, wanted, split.fit, self.context, length) if len(wanted) else None
            for concept, latents in enumerate(of_set):
                for count, changes in zip(counts, by_count, strict=True):
                    if values is None or not len(latents):
                        changes.append(nothing)
                    else:
                        changes.append({**values.suppress(latents[:count], concept, names, self.parameters)})
        strengths = tuple(float(count) for count in counts)
        return [
            Method(prefix + name, strengths, [[change[name] for change in changes] for changes in by_count])
            for name in names
        ]


def difference_in_means(
    splits: Sequence[ConceptSplit], context: TaskContext, parameters: dict[str, Any], site: str
) -> Method:
    """Directional ablation of mean(concept) - mean(the others) of the examples' mean activations at ``site``.

    About the mean of the others: at strength 1 every token has their value along the direction.
    """
    directions, centres = [], []
    for split in splits:
        means = mean_activations(context, split.fit.texts, parameters["context_length"], site)
        for target in split.fit.target:
            others = means[~target].mean(0)
            directions.append(means[target].mean(0) - others)
            centres.append(others)
    strengths = parameters["ablation_strengths"]
    changes: list[list[Intervention | None]] = [
        [
            DirectionalAblation(site, direction[None].to(context.lm.device), strength=strength, centre=centre)
            for direction, centre in zip(directions, centres, strict=True)
        ]
        for strength in strengths
    ]
    return Method("diffmean", tuple(strengths), changes)
