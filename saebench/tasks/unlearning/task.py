"""Unlearning with an SAE: what is forgotten and at which cost, beside methods without an SAE and controls."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from saebench.evaluation import Report, SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.unlearning.data.documents import document_items, documents
from saebench.tasks.unlearning.data.questions import content_hash, question_set, shared_questions
from saebench.tasks.unlearning.methods.guardrail import firing_shares
from saebench.tasks.unlearning.report import ResultReport
from saebench.tasks.unlearning.scoring.answers import QuestionMetrics
from saebench.tasks.unlearning.scoring.curves import headline_method
from saebench.tasks.unlearning.scoring.methods import (
    control_losses,
    guided_results,
    latent_curves,
    latent_results,
    results_without_sae,
)
from saebench.tasks.unlearning.scoring.samples import Samples
from saebench.tasks.unlearning.scoring.scorer import MethodScorer
from saebench.tasks.unlearning.selection import latent_statistics
from saebench.tasks.unlearning.settings import UnlearningSettings


class UnlearningTask(SAETask[UnlearningSettings]):
    """Clamps, the dynamic guardrail and SSPU with the latents of one SAE, beside RMU and the difference in means."""

    name: ClassVar[str] = "unlearning"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE, Capability.NON_NEGATIVE})
    settings = UnlearningSettings

    def prepare(self, context: TaskContext, settings: UnlearningSettings) -> None:
        """Raise UsageError, DataError or AssetError for texts and questions that cannot be used."""
        for split in documents(context, settings).values():
            document_items(context, split, settings)
        question_set(context, settings)

    def data(self, context: TaskContext, settings: UnlearningSettings) -> dict[str, str]:
        """The content hashes of the texts and of the question sets."""
        texts = {ref: context.text(ref).content_hash for ref in (settings.forget_text, *settings.retain_texts)}
        questions = {
            f"{side}_questions:{ref}": content_hash(shared_questions(context, ref))
            for side, ref in (("forget", settings.forget_questions), ("retain", settings.retain_questions))
        }
        return super().data(context, settings) | texts | questions

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: UnlearningSettings) -> TaskOutput:
        """Measure ``sae``. Where no latent passes the selection, its methods change nothing and have an effect of 0."""
        scorer = MethodScorer(context, settings, sae.hook.site_out)
        statistics = latent_statistics(sae, context, settings)
        curves = latent_curves(scorer, sae, statistics)
        with_latents = latent_results(scorer, curves)
        headline = headline_method({method: result.point for method, result in with_latents.items()})
        controls = control_losses(scorer, sae, statistics, with_latents, headline)
        results = {**with_latents, **results_without_sae(scorer), **guided_results(scorer, sae, statistics)}

        samples = Samples(context, settings.bootstrap_replicates)
        questions = QuestionMetrics(scorer.questions, scorer.clean_answers, samples)
        report = Report(self.card, context, settings.bootstrap_replicates)
        measured = ResultReport(report, samples, questions)
        measured.clean(scorer.clean_continuations)
        measured.results(results, controls, headline)
        if settings.saebench_score:
            changes = [change for curve in curves["clamp"] for change in curve.sweep.changes]
            measured.saebench_score(scorer.answers(changes))
        drawn = documents(context, settings)
        test = drawn["test"]
        for method, result in with_latents.items():
            sweep = result.point.curve.sweep
            rho = firing_shares(sae, context, test.texts, settings.context_length, np.array(sweep.latents, np.int64))
            gate = 1.0 if method == "dsg" and sweep.gate is None else sweep.gate  # without latents it never opens
            sides = np.stack([rho[test.is_forget], rho[~test.is_forget]])
            measured.detector(["", method] if method == headline else [method], sides, gate)
        if not any(curve.sweep.latents for tried in curves.values() for curve in tried):
            report.note("reason", "no latent passed the selection, so nothing was changed")
        report.count("selected_latents", len(results[headline].point.curve.sweep.latents))
        report.units("document", [[drawn[split].forget, drawn[split].retain] for split in ("validation", "test")])
        report.units("question", [content_hash(scorer.questions.questions), scorer.questions.n_forget])
        measured.counts(drawn, scorer.questions)
        return report.output()
