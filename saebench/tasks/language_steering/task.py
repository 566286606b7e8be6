"""Which latents belong to a language, what ablating them costs, and whether adding them makes the model speak it."""

from __future__ import annotations

from itertools import islice
from typing import ClassVar

import numpy as np
import torch

from saebench.evaluation import Report, SAETask, TaskOutput, subset_name
from saebench.evaluation.changes import DIFFMEAN
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.stats.rng import NO_CONTENT
from saebench.tasks.language_steering.data import parallel_sentences, training_texts
from saebench.tasks.language_steering.methods import RANDOM, controls, latent_vectors, steering_sweep
from saebench.tasks.language_steering.report import (
    report_ablation,
    report_counts,
    report_latents,
    report_notes,
    report_steering,
    report_tried,
)
from saebench.tasks.language_steering.scoring.ablation import latent_ablation_costs
from saebench.tasks.language_steering.scoring.continuations import continuations, identifier, joined
from saebench.tasks.language_steering.scoring.without_sae import without_sae
from saebench.tasks.language_steering.selection import (
    best_method,
    latent_rates,
    latents_by_method,
    random_latents,
    used_latents,
    validate,
)
from saebench.tasks.language_steering.settings import LanguageSteeringSettings


class LanguageSteeringTask(SAETask[LanguageSteeringSettings]):
    """Latents of languages: which they are, their ablation, and steering with them."""

    name: ClassVar[str] = "language_steering"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE})
    settings = LanguageSteeringSettings

    def prepare(self, context: TaskContext, settings: LanguageSteeringSettings) -> None:
        """Raise UsageError or DataError for sentences and languages that cannot be used, before any SAE is loaded."""
        training_texts(context, settings)
        continuations(context, settings, "validation")
        continuations(context, settings, "test")

    def data(self, context: TaskContext, settings: LanguageSteeringSettings) -> dict[str, str]:
        """Return the content hash of the parallel set."""
        parallel = parallel_sentences(context, settings).parallel
        return super().data(context, settings) | {settings.parallel: parallel.content_hash}

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: LanguageSteeringSettings) -> TaskOutput:
        """Find the latents of each language in ``sae``, choose strengths, and measure steering and ablation."""
        site, sentences = sae.hook.site_out, parallel_sentences(context, settings)
        validation, test = (continuations(context, settings, split) for split in ("validation", "test"))
        without = without_sae(context, settings, site)

        rates = latent_rates(sae, context, settings)
        latents = latents_by_method(rates, settings)
        used = used_latents(latents, settings)
        vectors = {method: latent_vectors(sae, rates, used[method], sentences.targets) for method in used}
        validated = validate(
            validation, [steering_sweep(method, site, vectors[method], settings.strengths) for method in used]
        )
        best = best_method(validated)
        draws = range(settings.control_draws)
        random = [random_latents(context, rates, used[best], draw) for draw in draws]
        others = [latent_vectors(sae, rates, latents_of_draw, sentences.targets) for latents_of_draw in random]
        seeds = [int(context.rng("language_steering:noise", NO_CONTENT, draw).integers(2**31)) for draw in draws]

        changes = {method: [sweep.change] for method, sweep in validated.items()}
        changes |= controls(site, vectors[best], others, validated[best].strength, seeds)
        under = iter(test.under([change for of_method in changes.values() for change in of_method]))
        scores = {method: joined(list(islice(under, len(of_method)))) for method, of_method in changes.items()}
        ablated = {**used, **{subset_name(RANDOM, str(draw)): one for draw, one in enumerate(random)}}
        costs = latent_ablation_costs(sae, context, settings, ablated)
        costs_of_draws = [costs.pop(subset_name(RANDOM, str(draw))) for draw in draws]
        costs |= {RANDOM: np.mean(costs_of_draws, axis=0), DIFFMEAN: without.costs}
        tried = {**without.validated, **validated}

        report = Report(self.card, context, settings.bootstrap_replicates)
        report.units("sentence", sentences.first("test", len(sentences.order["test"])))
        report_steering(report, sentences, {"": scores[best], **scores, **without.scores}, list(used))
        report_ablation(report, sentences, {"": costs[best], **costs})
        report_latents(report, latents)
        report_tried(report, rates, tried, costs)
        report_counts(report, settings, sentences, latents, scores[best])
        report_notes(report, best, tried, ablated, identifier(context, settings).version, scores[best])
        return report.output()
