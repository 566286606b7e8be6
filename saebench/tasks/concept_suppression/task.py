"""Suppress one concept at a time by latents, neurons and directions, and measure what else goes (2508.15094)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from saebench.evaluation import Report, SAETask, TaskOutput
from saebench.evaluation.changes import DIFFMEAN
from saebench.passes.context import TaskContext
from saebench.passes.labelled import labelled
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.concept_suppression.data import divided_sets, general_text
from saebench.tasks.concept_suppression.methods import NEURONS, Basis, ConceptSweep, difference_in_means, neuron_basis
from saebench.tasks.concept_suppression.report import SuppressionReport
from saebench.tasks.concept_suppression.scoring.scorer import MeasuredSweeps, SuppressionScorer
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings


class ConceptSuppressionTask(SAETask[ConceptSuppressionSettings]):
    """Full mask, range mask, partial suppression and APP on the latents of an SAE, beside neurons and controls."""

    name: ClassVar[str] = "concept_suppression"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = ConceptSuppressionSettings

    def prepare(self, context: TaskContext, settings: ConceptSuppressionSettings) -> None:
        """Raise UsageError, AssetError or DataError for data that cannot be used, before any SAE is loaded."""
        for labelled_set in divided_sets(context, settings):
            for part in (labelled_set.fit, labelled_set.validation, labelled_set.test):
                context.examples(part.texts, settings.context_length)
        general_text(context, settings)

    def data(self, context: TaskContext, settings: ConceptSuppressionSettings) -> dict[str, str]:
        """The content hash of each dataset, and of the text for the perplexity."""
        hashes = {ref: labelled(context, ref).content_hash for ref in settings.datasets}
        text = settings.perplexity_text
        return super().data(context, settings) | hashes | {f"perplexity_text:{text}": context.text(text).content_hash}

    def run(self, sae: SAE, context: TaskContext, settings: ConceptSuppressionSettings) -> TaskOutput:
        """Measure ``sae``, and once for each site the neurons and the difference in means."""
        sets, site, reads = divided_sets(context, settings), sae.hook.site_out, sae.hook.site_in
        key = (self.name, site, reads, settings)
        scorer = context.shared(
            (*key, "scorer"), lambda: SuppressionScorer(sets, context, settings, site=site, reads=reads)
        )

        def shared(description: str, make: Callable[[], list[ConceptSweep]]) -> MeasuredSweeps:
            return context.shared((*key, description), lambda: scorer.measure_and_choose(make(), description))

        directions = shared("difference in means", lambda: [difference_in_means(sets, context, settings, site)])
        neurons = shared("neurons", lambda: neuron_basis(site, sets, context, settings).sweeps(f"{NEURONS}/"))
        basis = Basis.of(sae, sets, context, settings)
        sweeps = basis.sweeps()
        ours = scorer.measure_and_choose(sweeps, sae.name)
        best_sweep = next(sweep for sweep in sweeps if sweep.method == ours.best.method)
        controls = scorer.measure(basis.controls(best_sweep, ours.best.strength), "test", "controls")

        references = {NEURONS: neurons.tested(neurons.best), DIFFMEAN: directions.tested(directions.best)}
        references |= {name: outcome.averaged() for name, outcome in controls.items()}
        report = Report(self.card, context)
        report.units("example", [[part.validation.texts, part.test.texts] for part in sets])
        report.units("sequence", general_text(context, settings).content_hash)
        rows = SuppressionReport(report, scorer, context, settings)
        rows.headline(ours, references)
        rows.readout()
        rows.trade_off("", ours.test[ours.best.method])
        rows.trade_off(NEURONS, neurons.test[neurons.best.method])
        for swept in (ours, neurons, directions):
            rows.sweeps(swept)
        rows.counts()
        chosen = {"": ours.best, NEURONS: neurons.best} | ours.best_of | neurons.best_of | directions.best_of
        rows.choice(basis, chosen)
        return report.output()
