"""Detoxification by toxic latents (after 2505.14536): chosen on some texts and prompts, tested on others."""

from __future__ import annotations

from typing import ClassVar

import torch

from saebench.evaluation import Report, SAETask, TaskOutput
from saebench.evaluation.changes import DIFFMEAN, RANDOM_LATENTS
from saebench.passes.activity import activity
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.stats.rng import NO_CONTENT
from saebench.stats.selection import auroc_contributions
from saebench.tasks.detox.baseline import mean_steering
from saebench.tasks.detox.data import neutral_sequences, source_hash, splits
from saebench.tasks.detox.report import (
    note_choices,
    note_nothing_changed,
    note_scorers,
    report_auroc,
    report_ce_changes,
    report_continuations,
    report_counts,
    report_likelihoods,
    report_mean_steering,
    report_tradeoffs,
    report_units,
    report_utility,
)
from saebench.tasks.detox.scoring.continuations import fluency_data, prompt_set
from saebench.tasks.detox.scoring.likelihood import text_pairs
from saebench.tasks.detox.scoring.side_effects import ce_changes, utility_scores
from saebench.tasks.detox.scoring.tradeoff import tradeoffs
from saebench.tasks.detox.selection import FIRES, MAXIMUM, ToxicLatents, matched_set, select_toxic, with_pooling
from saebench.tasks.detox.settings import DetoxSettings
from saebench.tasks.detox.steering import CHOSEN, changes_to_test, steered


class DetoxTask(SAETask[DetoxSettings]):
    """Whether taking toxic latents out of the activation makes continuations less toxic, and what it costs."""

    name: ClassVar[str] = "detox"
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.POSITION_WISE, Capability.LINEAR_DECODER, Capability.NON_NEGATIVE}
    )
    settings = DetoxSettings

    def prepare(self, context: TaskContext, settings: DetoxSettings) -> None:
        """Raise UsageError, DataError or AssetError for what cannot be used, before any SAE is loaded."""
        splits(context, settings)  # first, because it needs the language model last
        prompt_set(context, settings)
        neutral_sequences(context, settings)

    def data(self, context: TaskContext, settings: DetoxSettings) -> dict[str, str]:
        """Content hashes of the neutral text, the sources, the text for prompts and the model for fluency, if any."""
        sources = {source: source_hash(source, context) for source in (*settings.toxic, *settings.neutral)}
        hashes = super().data(context, settings) | sources
        hashes |= fluency_data(context, settings)
        if settings.prompts:
            hashes[settings.prompts] = context.read(settings.prompts).content_hash
        return hashes

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: DetoxSettings) -> TaskOutput:
        """Measure ``sae``. If it has no toxic latents, or no setting helps, nothing is changed: all effects are 0."""
        texts, site = splits(context, settings), sae.hook.site_out
        test = prompt_set(context, settings)
        pairs, test_pairs = (text_pairs(context, settings, split, site) for split in ("validation", "test"))
        fit_activity, validation_activity, test_activity = (
            activity(sae, context, texts[name].texts, settings.context_length) for name in ("fit", "validation", "test")
        )

        def selected(of: DetoxSettings) -> ToxicLatents:
            fit, validation = texts["fit"].toxic, texts["validation"].toxic
            return select_toxic(fit_activity, fit, validation_activity, validation, of)

        toxic, by_firing, by_size = (
            selected(with_pooling(settings, pooling)) for pooling in (settings.pooling, FIRES, MAXIMUM)
        )
        draws = settings.control_draws if RANDOM_LATENTS in settings.methods else 0
        random_latents = [
            matched_set(fit_activity, toxic.latents, context.rng("detox:random_latents", NO_CONTENT, draw))
            for draw in range(draws)
        ]
        sets = [toxic.latents, *random_latents]
        ours, *controls = steered(sae, sets, pairs, settings, context.budget.encoder)

        changes = changes_to_test(ours, controls, pairs, settings, context.seed)
        judgements = test.by_subset(changes)
        baseline = mean_steering(context, settings, site) if DIFFMEAN in settings.methods else None
        if baseline is not None:
            changes[DIFFMEAN], judgements[DIFFMEAN] = [baseline.change], [baseline.test]

        report = Report(self.card, context, settings.bootstrap_replicates)
        for metric, found, pooling in (
            ("latent_auroc", by_firing, FIRES),
            ("latent_size_auroc", by_size, MAXIMUM),
        ):
            scores, is_toxic = found.latents.score(test_activity, pooling), texts["test"].toxic
            report_auroc(report, metric, auroc_contributions(scores[is_toxic], scores[~is_toxic]))
        rises = test_pairs.by_subset(changes, "test texts under detoxification")
        report_likelihoods(report, rises, ours.tried, settings.max_loss_rise)
        report_continuations(report, judgements, test.clean)
        report_ce_changes(report, ce_changes(context, settings, site, changes))
        utility = utility_scores(context, settings, changes[CHOSEN][0])
        report_utility(report, settings, utility)
        if settings.sweep_on_test:
            report_tradeoffs(report, tradeoffs([one.sweep for one in ours.tried], test), settings)
        if baseline is not None:
            report_mean_steering(report, baseline, settings)
        report_counts(report, toxic, texts)
        report_units(report, texts, neutral_sequences(context, settings), utility)
        note_choices(report, toxic, random_latents, ours, controls, baseline)
        note_scorers(report, test)
        note_nothing_changed(report, settings, toxic, ours.best)
        return report.output()
