"""Sweeps that suppress concepts: by latents of an SAE or by neurons, along differences in means, and as controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from saebench.evaluation.changes import DIFFMEAN, NOISE, Sweep
from saebench.interventions.attenuate import Attenuate
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import zero
from saebench.interventions.latents import Latents
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.places import Places
from saebench.interventions.posterior import Posterior
from saebench.interventions.suppress import RangeMask, Scale
from saebench.interventions.vectors import DirectionalAblation
from saebench.lm.batching import to_device
from saebench.passes.activity import activity, mean_activations
from saebench.passes.context import TaskContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import SAE, HookSite
from saebench.stats.means import DifferenceInMeans
from saebench.stats.rng import NO_CONTENT
from saebench.stats.selection import frequency_matched
from saebench.tasks.concept_suppression.data import ConceptExamples, DividedSet
from saebench.tasks.concept_suppression.selection import ranked_latents
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings, SuppressionMethod

NEURONS = "neurons"
RANDOM = "random"  # latents drawn at random, as the published records call this control

# An intervention for each concept, those of all sets side by side; None changes nothing.
ConceptChanges = tuple[Intervention | None, ...]
ConceptSweep = Sweep[ConceptChanges]
Indices = NDArray[np.int64]  # numbers of latents


@dataclass(frozen=True)
class TokenValues:
    """The values of some latents at every token of the examples to fit on, except special tokens."""

    sae: SAE
    latents: Indices  # ascending
    values: Float[Tensor, "tokens latents"]  # on the CPU
    labels: Int[Tensor, " tokens"]  # the concept of the token's example
    budget: int  # bytes for blocks [tokens, d_sae]

    @classmethod
    def read(
        cls, sae: SAE, latents: Indices, examples: ConceptExamples, context: TaskContext, context_length: int
    ) -> TokenValues:
        """Encode the examples once, for all concepts."""
        latents = np.unique(latents)
        reader = Latents(sae, latents.tolist(), error="kept", budget=context.budget.encoder)
        labels, values, of_example = [], [], torch.from_numpy(examples.labels)
        for block, example in context.examples(examples.texts, context_length).tokens(sae.hook.site_in):
            x = to_device(block, context.lm.device)[None]
            everywhere = Places.of(torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
            values.append(reader.read(x, x, everywhere).values.cpu())
            labels.append(of_example[example])
        return cls(sae, latents, torch.cat(values), torch.cat(labels), reader.budget)

    def suppress(
        self,
        latents: Indices,
        concept: int,
        methods: Sequence[SuppressionMethod],
        settings: ConceptSuppressionSettings,
    ) -> dict[SuppressionMethod, Intervention]:
        """Suppress a concept by ``latents``, with each method.

        The interventions share one `Latents`, so that a pass encodes only once for all of them.
        """
        shared = Latents(self.sae, latents.tolist(), error="kept", budget=self.budget)
        f = self.values[:, torch.from_numpy(np.searchsorted(self.latents, latents))]

        def intervention(method: SuppressionMethod) -> Intervention:
            if method == "zero":
                return zero(shared)
            if method == "partial":
                return Scale(shared, settings.partial_factor)
            if method == "range":
                return _range_mask(shared, f[self.labels == concept], settings.range_tau)
            n_classes = int(self.labels.max()) + 1
            return Attenuate(shared, Posterior.fit(f, self.labels, concept, n_classes=n_classes))

        return {method: intervention(method) for method in methods}


@dataclass(frozen=True, eq=False)
class Basis:
    """The latents of one SAE that belong to each concept, best first, as the examples to fit on show.

    The neurons of a site are such a basis, too.
    """

    sae: SAE
    sets: Sequence[DividedSet]
    context: TaskContext
    settings: ConceptSuppressionSettings
    ranked: list[list[Indices]]  # [sets][concepts]
    rates: list[NDArray[np.float64]]  # [sets]: the share of tokens at which each latent fires, [d_sae]
    means: list[NDArray[np.float64]]  # [sets]: the mean activation of each latent over all tokens, [d_sae]

    @classmethod
    def of(
        cls, sae: SAE, sets: Sequence[DividedSet], context: TaskContext, settings: ConceptSuppressionSettings
    ) -> Basis:
        """Encode the examples and rank the latents. Raises SaebenchError when the SAE gives NaN or Inf."""
        ranked, rates, means = [], [], []
        for labelled_set in sets:
            latents = activity(sae, context, labelled_set.fit.texts, settings.context_length)
            ranked.append(ranked_latents(latents, labelled_set.fit.labels, settings.selection))
            rates.append(latents.token_rate())
            means.append(latents.mean())
        return cls(sae, sets, context, settings, ranked, rates, means)

    def sweeps(self, prefix: str = "") -> list[ConceptSweep]:
        """Return one sweep for each method, which changes rising numbers of the best latents of each concept.

        Where a concept has fewer latents than that, all of them are changed. ``prefix`` comes before the names of the
        methods.
        """
        counts = self.settings.latents
        strengths = tuple(float(count) for count in counts)
        changes = self._changes(self.ranked, self.settings.methods, counts)
        return [Sweep(prefix + method, strengths, changes[method]) for method in self.settings.methods]

    def controls(self, sweep: ConceptSweep, strength: float | None) -> list[ConceptSweep]:
        """Repeat one strength of a sweep with other latents, and with noise of the norm of its change.

        Both are drawn ``control_draws`` times, and a sweep holds all draws at the same strength. The other latents fire
        about as often as the best ones; they are at most half of all. Where nothing is changed, the controls have no
        strength either.

        Args:
            sweep: One of `sweeps`, without a prefix.
            strength: One of its strengths; None where nothing is changed.
        """
        if strength is None:
            return [Sweep(RANDOM, (), ()), Sweep(NOISE, (), ())]
        change, draws = sweep.changes[sweep.strengths.index(strength)], range(self.settings.control_draws)
        random = tuple(self._other_latents(sweep.method, int(strength), draw) for draw in draws)
        seeds = [int(self.context.rng("concept_suppression:noise", NO_CONTENT, n).integers(2**31)) for n in draws]
        noise = tuple(tuple(one and EqualNormNoise(one, seed) for one in change) for seed in seeds)
        strengths = (strength,) * len(draws)
        return [Sweep(RANDOM, strengths, random), Sweep(NOISE, strengths, noise)]

    def count(self, most: int) -> int:
        """How many latents all concepts together have among their best ``most``."""
        return sum(min(most, len(latents)) for ranked in self.ranked for latents in ranked)

    def _other_latents(self, method: str, n: int, draw: int) -> ConceptChanges:
        """Change ``n`` other latents of each concept, which fire about as often as its best ones."""
        others = []
        for labelled_set, ranked, rates, ties in zip(self.sets, self.ranked, self.rates, self.means, strict=True):
            rng = self.context.rng("concept_suppression:random", labelled_set.content_hash, draw)
            most = min(n, self.sae.d_sae // 2)
            others.append([frequency_matched(rates, latents[:most], rng, ties=ties) for latents in ranked])
        methods = [one for one in self.settings.methods if one == method]
        [[changes]] = self._changes(others, methods, [n]).values()
        return changes

    def _changes(
        self, ranked: list[list[Indices]], methods: Sequence[SuppressionMethod], counts: Sequence[int]
    ) -> dict[SuppressionMethod, tuple[ConceptChanges, ...]]:
        """Return, for each method, the changes of all concepts, one for each number of latents."""
        by_concept: list[list[Mapping[SuppressionMethod, Intervention | None]]] = []  # [concepts][counts]
        for labelled_set, ranked_in_set in zip(self.sets, ranked, strict=True):
            wanted = np.concatenate([latents[: max(counts)] for latents in ranked_in_set])
            values = None
            if len(wanted):
                length = self.settings.context_length
                values = TokenValues.read(self.sae, wanted, labelled_set.fit, self.context, length)
            for concept, latents in enumerate(ranked_in_set):
                if values is None or not len(latents):
                    by_concept.append([dict.fromkeys(methods)] * len(counts))
                else:
                    by_concept.append(
                        [values.suppress(latents[:count], concept, methods, self.settings) for count in counts]
                    )
        return {
            method: tuple(tuple(changes[method] for changes in concepts) for concepts in zip(*by_concept, strict=True))
            for method in methods
        }


def neuron_basis(
    site: str, sets: Sequence[DividedSet], context: TaskContext, settings: ConceptSuppressionSettings
) -> Basis:
    """Return the basis of the neurons at ``site``, which are the coordinates of the activation."""
    neurons = NeuronBaseline(context.lm.d_at(site), name="neurons", hook=HookSite.at(site)).to(context.lm.device)
    return Basis.of(neurons, sets, context, settings)


def difference_in_means(
    sets: Sequence[DividedSet], context: TaskContext, settings: ConceptSuppressionSettings, site: str
) -> ConceptSweep:
    """Ablate, for each concept, the direction mean(concept) - mean(the others) of the examples' mean activations.

    At strength 1 every token gets the value that the mean of the others has along the direction.
    """
    differences = []
    for labelled_set in sets:
        means = mean_activations(context, labelled_set.fit.texts, settings.context_length, site)
        differences += [DifferenceInMeans.between(means[own], means[~own]) for own in labelled_set.fit.target]
    changes = tuple(
        tuple(
            DirectionalAblation(
                site, means.direction[None].to(context.lm.device), strength=strength, centre=means.centre
            )
            for means in differences
        )
        for strength in settings.ablation_strengths
    )
    return Sweep(DIFFMEAN, settings.ablation_strengths, changes)


def _range_mask(latents: Latents, f: Float[Tensor, "tokens n"], tau: float) -> RangeMask:
    """Mask the usual range of each latent: that at the tokens of the concept at which it is not 0."""
    f = f.double()
    active = f != 0
    n = active.sum(0).clamp(min=1)
    mean = f.sum(0) / n
    sd = (((f - mean) * active).square().sum(0) / n).sqrt()
    return RangeMask(latents, mean.tolist(), sd.tolist(), tau=tau)
