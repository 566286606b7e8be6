"""Which latents of an SAE are found again when it is trained with another seed."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch

from saebench.errors import NotApplicableError
from saebench.evaluation import GroupTask, Report, SAEGroup, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.protocol import Capability
from saebench.tasks.seed_stability.data import (
    captured_text,
    evaluated_sequences,
    initial_fingerprints,
    initial_saes,
)
from saebench.tasks.seed_stability.report.function import report_function
from saebench.tasks.seed_stability.report.geometry import report_comparison, report_over_null, report_pairs
from saebench.tasks.seed_stability.report.latents import report_counts, report_latents
from saebench.tasks.seed_stability.report.spans import report_clusters, report_subspaces
from saebench.tasks.seed_stability.scoring.clusters import cluster_recurrence
from saebench.tasks.seed_stability.scoring.firing import firing_totals
from saebench.tasks.seed_stability.scoring.function import function_scores
from saebench.tasks.seed_stability.scoring.geometry import (
    NULLS,
    ComparedLatents,
    compare,
    same_dictionaries,
    stand_ins,
)
from saebench.tasks.seed_stability.scoring.subspaces import unstable_subspaces
from saebench.tasks.seed_stability.selection import decoder_rows, member_stabilities
from saebench.tasks.seed_stability.settings import SeedStabilitySettings


class SeedStabilityTask(GroupTask[SeedStabilitySettings]):
    """The stability of the latents of a group of SAEs that differ in seed: geometry, subspaces and function."""

    name: ClassVar[str] = "seed_stability"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE})
    settings = SeedStabilitySettings

    def prepare(self, context: TaskContext, settings: SeedStabilitySettings) -> None:
        """Raise UsageError or DataError for a text that cannot be used, before any SAE is loaded."""
        context.batch(settings.text, settings.context_length, settings.sequences)

    def data(self, context: TaskContext, settings: SeedStabilitySettings) -> dict[str, str]:
        """The content hash of the text, and the fingerprints of the SAEs at initialisation."""
        return super().data(context, settings) | initial_fingerprints(context, settings)

    @torch.no_grad()
    def run_group(self, group: SAEGroup, context: TaskContext, settings: SeedStabilitySettings) -> TaskOutput:
        """Measure ``group``. Raises NotApplicableError for a group that holds the same dictionary twice."""
        saes, fingerprints = group.saes, group.fingerprints
        if len({sae.fingerprint() for sae in saes}) < len(saes):
            raise NotApplicableError(
                f"Group {group.name} holds the same SAE twice, which would be perfectly stable; name SAEs that were "
                "trained apart."
            )
        captured = captured_text(context, settings)
        captured.want(*(sae.hook.site_in for sae in saes))
        firing = [firing_totals(sae, captured, context.budget.encoder) for sae in saes]
        every = [ComparedLatents.of(sae, totals) for sae, totals in zip(saes, firing, strict=True)]
        alive = [latents.where(totals.alive) for latents, totals in zip(every, firing, strict=True)]
        comparison_of_all = compare(every, every, settings)
        if twins := same_dictionaries(comparison_of_all.decoder):
            a, b = (saes[run].name for run in twins)
            raise NotApplicableError(
                f"Group {group.name} holds one dictionary twice: {a} and {b} have the same decoder rows up to their "
                "order and their scale, so they would be perfectly stable; name SAEs that were trained apart."
            )

        report = Report(self.card, context, settings.bootstrap_replicates)
        comparison = compare(alive, alive, settings)
        report_comparison(report, alive, comparison, settings)
        report_pairs(report, [sae.name for sae in saes], comparison, settings)
        for null in NULLS:
            random = stand_ins(alive, null, context.rng, "seed_stability:alive")
            against = compare(alive, random, settings)
            report_comparison(report, alive, against, settings, f"null:{null}")
            if null == "covariance":
                backward = compare(alive[::-1], random[::-1], settings)
                report_over_null(report, comparison, against, backward)
        report_comparison(report, every, comparison_of_all, settings, "all")
        # Decoders alone: these nulls are for reference only, and a matching of random rows takes as long as a real one.
        decoders = [replace(latents, encoder=None) for latents in every]
        for null in NULLS:
            random = stand_ins(decoders, null, context.rng, "seed_stability:all")
            against = compare(decoders, random, settings)
            report_comparison(report, decoders, against, settings, f"all/null:{null}", with_shared=False)
        if settings.at_init:
            initial = zip(initial_saes(group, context, settings), firing, strict=True)
            start = [ComparedLatents.of(sae, totals).where(totals.alive) for sae, totals in initial]
            report_comparison(report, start, compare(start, start, settings), settings, "at-init")

        members = member_stabilities(group, every, alive, comparison.decoder, settings)
        unstable, stable = (decoder_rows(kind, members, every, settings) for kind in ("unstable", "stable"))
        report_subspaces(report, unstable_subspaces(unstable, stable, fingerprints, context.rng, settings))
        report_clusters(report, cluster_recurrence(unstable, stable, fingerprints, context.rng, settings), settings)
        report_function(report, function_scores(members, context, settings))
        report_latents(report, members, alive, comparison)
        report_counts(report, members, comparison, int(captured.batch.evaluated.sum()))
        report.units("sequence", evaluated_sequences(context, settings))
        report.note("members", [sae.name for sae in saes])  # the order of the arrays and of pairs
        return report.output()
