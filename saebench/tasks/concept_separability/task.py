"""Concept separability (2508.15094, our reading): how far the distributions of latents differ between concepts."""

from __future__ import annotations

from typing import ClassVar

from saebench.evaluation import Report, SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.passes.labelled import labelled
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.concept_separability.data import concept_sets
from saebench.tasks.concept_separability.report import report_averages, report_concepts, report_latents
from saebench.tasks.concept_separability.scoring.sets import neuron_scores, sae_scores
from saebench.tasks.concept_separability.settings import ConceptSeparabilitySettings


class ConceptSeparabilityTask(SAETask[ConceptSeparabilitySettings]):
    """How far single latents tell concepts apart, beside the neurons at the same site."""

    name: ClassVar[str] = "concept_separability"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = ConceptSeparabilitySettings

    def prepare(self, context: TaskContext, settings: ConceptSeparabilitySettings) -> None:
        """Raise UsageError, AssetError or DataError for datasets that cannot be used, before any SAE is loaded."""
        concept_sets(context, settings)

    def data(self, context: TaskContext, settings: ConceptSeparabilitySettings) -> dict[str, str]:
        """The content hash of each dataset, by its reference."""
        hashes = {ref: labelled(context, ref).content_hash for ref in settings.datasets}
        return super().data(context, settings) | hashes

    def run(self, sae: SAE, context: TaskContext, settings: ConceptSeparabilitySettings) -> TaskOutput:
        """Measure ``sae`` on every dataset, and once for each site the neurons that it reads."""
        sets = concept_sets(context, settings)
        neurons = neuron_scores(sae.hook.site_in, sets, context, settings)
        ours = neurons if type(sae) is NeuronBaseline else sae_scores(sae, sets, context, settings)
        scored = list(zip(sets, ours, neurons, strict=True))
        # Word-level sets ask for the last token itself, so they are in the headline only where there are no others.
        headline = [row for row in scored if not row[0].concepts.word_level] or scored

        report = Report(self.card, context)
        report.units("example", [concept_set.concepts.content for concept_set in sets])
        n = sum(concept_set.examples.n for concept_set, _, _ in headline)
        report_averages(report, [own for _, own, _ in headline], [theirs for _, _, theirs in headline], n)
        by_name = sorted(scored, key=lambda row: row[0].concepts.name)
        for (concepts, examples), own, theirs in by_name:
            report_averages(report, [own], [theirs], examples.n, concepts.name)
            report_concepts(report, concepts, own, examples.n)
        for (concepts, examples), own, _ in by_name:
            report_latents(report, concepts.name, own, examples.n)
        return report.output()
