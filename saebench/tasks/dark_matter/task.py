"""How much of the error of an SAE is linear in the activation (2410.14670), and whether other SAEs share it."""

from __future__ import annotations

from itertools import permutations
from typing import ClassVar

import torch

from saebench.errors import NotApplicableError
from saebench.evaluation import GroupTask, Report, SAEGroup, SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.dark_matter.data import evaluation_batch, fit_batch, loss_batch
from saebench.tasks.dark_matter.report import (
    report_agreement,
    report_errors,
    report_inputs,
    report_losses,
    report_norms,
)
from saebench.tasks.dark_matter.scoring.agreement import agreement
from saebench.tasks.dark_matter.scoring.evaluation import norms_from_loss
from saebench.tasks.dark_matter.scoring.prediction import predict_error, token_errors
from saebench.tasks.dark_matter.scoring.splice import spliced_losses
from saebench.tasks.dark_matter.settings import DarkMatterSettings


class DarkMatterTask(SAETask[DarkMatterSettings], GroupTask[DarkMatterSettings]):
    """Predicts the error of an SAE from the activation; for groups, the error of one SAE from that of another."""

    name: ClassVar[str] = "dark_matter"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = DarkMatterSettings

    def prepare(self, context: TaskContext, settings: DarkMatterSettings) -> None:
        """Raise UsageError or DataError for a text that cannot be used, before any SAE is loaded."""
        for d in sorted({context.lm.d_at(site) for site in context.sites}) or [context.lm.d_model]:
            fit_batch(context, settings, d)

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: DarkMatterSettings) -> TaskOutput:
        """Measure ``sae``. Raises DataError when the text is too short for the SAE's width."""
        coder = Coder(sae, context.budget.encoder)
        predicted = predict_error(coder, context, settings)
        scores, exact = predicted.scores, predicted.scores.every.exact
        captured = context.capture(loss_batch(context, settings, sae.d_in))
        clean = context.clean_pass(captured, sae.hook.site_out)
        to_error = None if exact else predicted.model.maps["intercept"]
        losses = spliced_losses(coder, to_error, clean, context, random=settings.random_direction_control)

        report = Report(self.card, context, settings.bootstrap_replicates)
        report_errors(report, scores)
        report_norms(report, scores, norms_from_loss(scores.tokens, captured))
        report_losses(report, clean, losses, exact=exact)
        report_inputs(report, predicted.inputs)
        tokens, ordinary = (int(sums.target.tokens.sum()) for sums in (scores.every, scores.ordinary))
        evaluated = evaluation_batch(context, settings, sae.d_in)
        report.units("sequence", [evaluated.content_hash, captured.batch.content_hash])
        report.count("fit_tokens", predicted.inputs.solver.inputs.n)
        report.count("tokens", tokens)
        report.count("massive_tokens", tokens - ordinary)
        report.count("sequences", len(scores.l0))
        report.count("sequences_missing", evaluated.n_missing)
        report.count("loss_sequences", clean.n_sequences)
        return report.output()

    @torch.no_grad()
    def run_group(self, group: SAEGroup, context: TaskContext, settings: DarkMatterSettings) -> TaskOutput:
        """Predict the error of each SAE of ``group`` from that of every other.

        Raises NotApplicableError for a group with an SAE that reconstructs exactly.
        """
        errors = [token_errors(sae, context, settings) for sae in group.saes]
        if exact := [sae.name for sae, tokens in zip(group.saes, errors, strict=True) if tokens.exact]:
            raise NotApplicableError(f"{exact[0]} reconstructs exactly up to rounding, so it has no error to compare.")
        report = Report(self.card, context, settings.bootstrap_replicates)
        evaluated = evaluation_batch(context, settings, group.saes[0].d_in)
        sequences = len(evaluated.tokens)
        for (i, a), (j, b) in permutations(enumerate(errors), 2):
            ratios = agreement(a, b, sequences)
            if i > j:  # it is symmetric, and was reported for the pair in the other order
                del ratios["agreement_rank_correlation"]
            report_agreement(report, f"{group.saes[i].name} -> {group.saes[j].name}", ratios)
        report.units("sequence", evaluated.content_hash)
        report.count("sequences", sequences)
        report.count("tokens", len(errors[0].sequence))
        report.count("pairs", len(errors) * (len(errors) - 1))
        return report.output()
