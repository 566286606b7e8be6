"""The results of all methods as measurements: the subset is the method, and "" the one that validation chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from saebench.evaluation import Report
from saebench.evaluation.changes import CLEAN, DIFFMEAN, RANDOM_LATENTS
from saebench.evaluation.report import Ratio
from saebench.scorers.text import repeated
from saebench.stats.intervals import Estimate
from saebench.stats.selection import auroc_contributions
from saebench.tasks.unlearning.data.documents import SIDES, DocumentSplit, Side, SplitName
from saebench.tasks.unlearning.data.questions import QuestionSet
from saebench.tasks.unlearning.scoring.answers import ChosenAnswers, QuestionMetrics
from saebench.tasks.unlearning.scoring.continuations import Continuations
from saebench.tasks.unlearning.scoring.losses import PARTS, Losses, shares
from saebench.tasks.unlearning.scoring.methods import RANDOM_DIRECTIONS
from saebench.tasks.unlearning.scoring.samples import Samples
from saebench.tasks.unlearning.scoring.scorer import MethodResult
from saebench.tasks.unlearning.scoring.selectivity import Selectivity

_NOTHING_KNOWN = "the unchanged model knows nothing of the documents, or there are no words of the topic in them"
_NO_ROWS = "the decoder of the SAE is not linear, so there are no rows to replace"
# The controls that the headline is compared with, the metrics, and why one may be missing.
_CONTROLS = {RANDOM_DIRECTIONS: "direction_effect", RANDOM_LATENTS: "selection_effect"}


class ResultReport:
    """Adds results to a report, with intervals from bootstrap samples that all of them share."""

    def __init__(self, report: Report, samples: Samples, questions: QuestionMetrics) -> None:
        self.report = report
        self._samples, self._questions, self._selectivity = samples, questions, Selectivity(samples)

    def clean(self, continuations: Continuations) -> None:
        """Add the answers and the continuations of the unchanged model."""
        self.answers([CLEAN], self._questions.clean)
        self._repetition([CLEAN], continuations)

    def results(self, results: Mapping[str, MethodResult], controls: Mapping[str, Losses], headline: str) -> None:
        """Add every method and control, by how much the headline exceeds them, and what was chosen on the way."""
        for method, result in results.items():
            subsets = ["", method] if method == headline else [method]
            self._documents(subsets, result.test)
            self.answers(subsets, result.answers)
            self._repetition(subsets, result.continuations)
        for control, losses in controls.items():
            self._documents([control], losses)
        self._comparisons(results, controls, headline)
        self._trade_offs(results)
        self.report.note("headline", headline)
        self.report.note("settings", {method: result.point.note() for method, result in results.items()})
        sweeps = {method: [curve.sweep.label for curve in result.tried] for method, result in results.items()}
        self.report.note("sweeps", sweeps)

    def answers(self, subsets: Sequence[str], answers: ChosenAnswers) -> None:
        """Add how many answers are right, how that changed, and whether the model is broken."""
        clean, questions = self._questions.clean, self._questions
        changed = CLEAN not in subsets
        for side, rows in questions.sides.items():
            values = {f"question_accuracy_{side}": answers.correct}
            if changed:
                values[f"question_accuracy_{side}_change"] = answers.correct - clean.correct
                values[f"question_margin_{side}_change"] = answers.margin - clean.margin
            for metric, by_question in values.items():
                parts = (by_question[rows], np.ones(int(rows.sum())))
                self._ratio(metric, parts, "question", f"question:{side}", subsets)
        if changed:
            why = "the unchanged model answers the forget questions no better than chance, or no retain question right"
            self._estimate("alignment", questions.alignment(answers), "question", why, subsets)
        self._estimate("answer_entropy", questions.answer_entropy(answers), "question", None, subsets)
        uneven = np.isfinite(answers.shortest)
        parts = (answers.shortest[uneven], np.ones(int(uneven.sum())))
        self._ratio("shortest_answer_share", parts, "question", "question:uneven", subsets, "all are equally long")

    def saebench_score(self, tried: Sequence[ChosenAnswers]) -> None:
        """Add SAEBench's score from the answers under every setting of the clamp."""
        score = self._questions.saebench_score(tried)
        why = "the unchanged model answers no question of one side right"
        self._estimate("saebench_unlearning_score", score, "question", why, [""])

    def detector(self, subsets: Sequence[str], rho: Float[np.ndarray, "2 n"], gate: float | None) -> None:
        """Add how well firing shares tell the sides of the test documents apart, and in how many a gate opens.

        Args:
            subsets: The subsets of the latents' method.
            rho: The share of each document's tokens at which a latent fires, forget documents in row 0.
            gate: The threshold of the dynamic guardrail; None for other methods.
        """
        contributions = auroc_contributions(*rho)
        self._ratio("detector_auroc", (contributions, np.ones_like(contributions)), "document", "pair", subsets)
        if gate is not None:
            for side, of_side in zip(SIDES, rho, strict=True):
                opened = (of_side > gate).astype(float)
                self._ratio("dsg_gate_open", (opened, np.ones_like(opened)), "document", side, [side])

    def counts(self, documents: Mapping[SplitName, DocumentSplit], questions: QuestionSet) -> None:
        """Add how many documents and questions there are of each side."""
        for split, drawn in documents.items():
            self.report.count(f"{split}_forget_documents", len(drawn.forget))
            self.report.count(f"{split}_retain_documents", len(drawn.retain))
        self.report.count("forget_questions", questions.n_forget)
        self.report.count("retain_questions", len(questions.questions) - questions.n_forget)

    # ------------------------------------------------------------------ inside

    def _documents(self, subsets: Sequence[str], losses: Losses) -> None:
        """Add what a method does to the test documents; of several draws of a control, the mean."""
        self._estimate("selective_forgetting", self._selectivity.value(losses), "document", _NOTHING_KNOWN, subsets)
        for part in PARTS:
            lost, known = losses.lost(part)
            side: Side = "retain" if part == "retain" else "forget"
            self._ratio(f"{part}_lost", (lost.mean(0), known), "document", side, subsets, _NOTHING_KNOWN)
        for side in SIDES:
            for metric, (values, counts) in (("delta_ce", losses.rise(side)), ("broken", losses.broken(side))):
                self._ratio(f"{side}_{metric}", (values.mean(0), counts), "document", side, subsets)

    def _comparisons(self, results: Mapping[str, MethodResult], controls: Mapping[str, Losses], headline: str) -> None:
        """Add by how much the headline exceeds its controls and the difference in means."""
        own = results[headline].test
        for control, metric in _CONTROLS.items():
            found = self._selectivity.over(own, controls[control]) if control in controls else _missing(own)
            why = _NOTHING_KNOWN if control in controls else _NO_ROWS
            self._estimate(metric, found, "document", why, [""])
        if DIFFMEAN in results:
            over = self._selectivity.over(own, results[DIFFMEAN].test)
            self._estimate("over_diffmean", over, "document", _NOTHING_KNOWN, [""])

    def _repetition(self, subsets: Sequence[str], continuations: Continuations) -> None:
        """Add the share of repeated 4-grams in the continuations, which are as many on both sides."""
        half = len(continuations) // 2
        for side, texts in zip(SIDES, (continuations[:half], continuations[half:]), strict=True):
            if texts:
                again, total = (np.array(counts, float) for counts in zip(*map(repeated, texts), strict=True))
                self._ratio(f"repetition_{side}", (again, total), "document", f"written:{side}", subsets)

    def _trade_offs(self, results: Mapping[str, MethodResult]) -> None:
        """Keep what every setting that was tried does on validation in the arrays ``trade_off/METHOD``.

        Their shape is ``[settings, 5]``. The columns are the number of the sweep, the strength, and the shares that are
        lost of the topic, of fluency and of the retained documents.
        """
        for method, result in results.items():
            rows = [
                [number, *row]
                for number, curve in enumerate(result.tried)
                for row in zip(curve.sweep.strengths, *shares(curve.validation).values(), strict=True)
            ]
            if rows:
                self.report.array(f"trade_off/{method}", np.array(rows, np.float32))

    def _ratio(
        self,
        metric: str,
        parts: Ratio,
        unit: str,
        drawn: str,
        subsets: Sequence[str],
        why: str = "there is nothing to score on this side",
    ) -> None:
        """Add a ratio of sums under each of ``subsets``; ``drawn`` names the units that are resampled."""
        weights = self._samples.weights(len(parts[0]), drawn) if len(parts[0]) else None
        for subset in subsets:
            self.report.ratio(metric, parts, unit=unit, why=why, subset=subset, weights=weights)

    def _estimate(self, metric: str, estimate: Estimate, unit: str, why: str | None, subsets: Sequence[str]) -> None:
        for subset in subsets:
            self.report.estimate(metric, estimate, unit=unit, why=why, subset=subset)


def _missing(losses: Losses) -> Estimate:
    """An estimate that is not scored."""
    return Estimate(np.nan, np.nan, np.nan, np.nan, int(losses.known.is_forget.sum()), "none")
