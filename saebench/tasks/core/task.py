"""Core evaluation of one SAE: reconstruction, sparsity, and what splicing it in costs the language model."""

from __future__ import annotations

from typing import ClassVar

import torch

from saebench.evaluation import Report, SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.tasks.core.data import clean_pass, sequences
from saebench.tasks.core.ordinary import ordinary_tokens
from saebench.tasks.core.report import report_scores, report_weights
from saebench.tasks.core.scoring import evaluate
from saebench.tasks.core.settings import CoreSettings


class CoreTask(SAETask[CoreSettings]):
    """Reconstruction, sparsity, CE and KL of an SAE; every SAE that encodes and decodes can take it."""

    name: ClassVar[str] = "core"
    several_sites: ClassVar[bool] = True
    settings = CoreSettings

    def prepare(self, context: TaskContext, settings: CoreSettings) -> None:
        """Raise UsageError or DataError for a text that cannot be used, before any SAE is loaded."""
        sequences(context, settings)

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: CoreSettings) -> TaskOutput:
        """Measure ``sae`` on the sampled sequences of the text."""
        clean = clean_pass(context, settings, *sae.hook.sites_out)
        ordinary = context.shared(("core", "ordinary", clean.site, settings), lambda: ordinary_tokens(clean))
        scores = evaluate(sae, clean, ordinary, context.budget.encoder)
        report = Report(self.card, context, settings.bootstrap_replicates)
        report_scores(report, scores, clean, sae.d_in)
        report_weights(report, sae)
        batch = sequences(context, settings)
        report.units("sequence", batch.content_hash)
        report.count("sequences", clean.n_sequences)
        report.count("sequences_missing", batch.n_missing)
        report.count("documents", batch.n_documents)
        report.count("tokens", int(clean.evaluated.sum()))
        report.count("massive_tokens", int((~ordinary.chosen).sum()))
        report.count("predictions", int(clean.predictions.sum()))
        return report.output()
