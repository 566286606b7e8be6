"""The results of all methods as measurements: the subset is the method, and "" the one that validation chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from saebench.evaluation import Report
from saebench.evaluation.changes import CLEAN, DIFFMEAN, RANDOM_LATENTS
from saebench.evaluation.report import Ratio
from saebench.scorers.text import repeated
from saebench.stats.intervals import Estimate
from saebench.stats.proportions import weighted_proportion
from saebench.tasks.unlearning.data.documents import SIDES, DocumentSplit, SplitName
from saebench.tasks.unlearning.data.questions import QuestionSet
from saebench.tasks.unlearning.scoring.answers import ChosenAnswers, QuestionMetrics
from saebench.tasks.unlearning.scoring.continuations import Continuations
from saebench.tasks.unlearning.scoring.curves import CurveMetrics
from saebench.tasks.unlearning.scoring.samples import Samples
from saebench.tasks.unlearning.scoring.scorer import MethodResult, SettingResult


class ResultReport:
    """Adds results to a report, with intervals from bootstrap samples that all of them share."""

    def __init__(self, report: Report, samples: Samples, curves: CurveMetrics, questions: QuestionMetrics) -> None:
        self.report = report
        self._samples, self._curves, self._questions = samples, curves, questions

    def clean(self, continuations: Continuations) -> None:
        """Add the answers and the continuations of the unchanged model."""
        self.answers([CLEAN], self._questions.clean)
        self._repetition([CLEAN], continuations)

    def results(self, results: Mapping[str, SettingResult], headline: str) -> None:
        """Add every method, how much the headline exceeds its controls, and what was chosen on the way."""
        for method, result in results.items():
            subsets = ["", method] if method == headline else [method]
            self._documents(subsets, result)
            self.answers(subsets, result.answers)
            self._repetition(subsets, result.continuations)
        swept = {method: result for method, result in results.items() if isinstance(result, MethodResult)}
        self._differences(swept, headline)
        self._trade_offs(swept)
        sweeps = {method: [curve.sweep.label for curve in result.tried] for method, result in swept.items()}
        self.report.note("headline", headline)
        self.report.note("settings", {method: result.setting for method, result in results.items()})
        self.report.note("sweeps", {method: sweeps.get(method, []) for method in results})

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
        shortest = weighted_proportion(answers.shortest[np.isfinite(answers.shortest)])
        self._estimate("shortest_answer_share", shortest, "question", "all answers are equally long", subsets)

    def saebench_score(self, tried: Sequence[ChosenAnswers]) -> None:
        """Add SAEBench's score from the answers under every setting of the clamp."""
        score = self._questions.saebench_score(tried)
        why = "the unchanged model answers no question of one side right"
        self._estimate("saebench_unlearning_score", score, "question", why, [""])

    def gate(self, opened: Bool[np.ndarray, " documents"], is_forget: Bool[np.ndarray, " documents"]) -> None:
        """Add in how many of the test documents the gate of the dynamic guardrail opens."""
        for side, rows in zip(SIDES, (is_forget, ~is_forget), strict=True):
            hits = opened[rows].astype(float)
            parts = (hits, np.ones_like(hits))
            self._estimate("dsg_gate_open", weighted_proportion(hits), "document", None, [side], parts)

    def counts(self, documents: Mapping[SplitName, DocumentSplit], questions: QuestionSet) -> None:
        """Add how many documents and questions there are of each side."""
        for split, drawn in documents.items():
            self.report.count(f"{split}_forget_documents", len(drawn.forget))
            self.report.count(f"{split}_retain_documents", len(drawn.retain))
        self.report.count("forget_questions", questions.n_forget)
        self.report.count("retain_questions", len(questions.questions) - questions.n_forget)

    # ------------------------------------------------------------------ inside

    def _documents(self, subsets: Sequence[str], result: SettingResult) -> None:
        """Add the rises of the loss at the chosen setting, and the metrics of its whole curve."""
        for side in SIDES:
            sums, predictions = result.test.of_side(side)
            self._ratio(f"{side}_delta_ce", (sums[0], predictions), "document", side, subsets)
        if isinstance(result, MethodResult):
            for metric, estimate in self._curves.estimates(result.point.curve.test).items():
                self._estimate(metric, estimate, "document", None, subsets)

    def _differences(self, results: Mapping[str, MethodResult], headline: str) -> None:
        """Add how much more the headline forgets at the budget than random latents and the difference in means."""
        tests = {method: result.point.curve.test for method, result in results.items()}
        for control, name in ((RANDOM_LATENTS, "random"), (DIFFMEAN, "diffmean")):
            if control in tests:
                difference = self._curves.difference_at_budget(tests[headline], tests[control])
                self._estimate(f"at_budget_over_{name}", difference, "document", None, [""])

    def _repetition(self, subsets: Sequence[str], continuations: Continuations) -> None:
        """Add the share of repeated 4-grams in the continuations, which are as many on both sides."""
        half = len(continuations) // 2
        for side, texts in zip(SIDES, (continuations[:half], continuations[half:]), strict=True):
            if texts:
                again, total = (np.array(counts, float) for counts in zip(*map(repeated, texts), strict=True))
                self._ratio(f"repetition_{side}", (again, total), "document", f"written:{side}", subsets)

    def _trade_offs(self, results: Mapping[str, MethodResult]) -> None:
        """Keep every setting that was tried in the arrays ``trade_off/METHOD``, ``[settings, 6]``.

        The columns are the number of the sweep, the strength, the rises of the loss on the forget and the retain side
        of validation, and those of test, in nats per token.
        """
        for method, result in results.items():
            rows = [
                [number, *row]
                for number, curve in enumerate(result.tried)
                for row in zip(
                    curve.sweep.strengths, *curve.validation.both_sides(), *curve.test.both_sides(), strict=True
                )
            ]
            if rows:
                self.report.array(f"trade_off/{method}", np.array(rows, np.float32))

    def _ratio(self, metric: str, parts: Ratio, unit: str, drawn: str, subsets: Sequence[str]) -> None:
        """Add a ratio of sums under each of ``subsets``; ``drawn`` names the units that are resampled."""
        weights = self._samples.weights(len(parts[0]), drawn)
        why = "there is nothing to score on this side"
        for subset in subsets:
            self.report.ratio(metric, parts, unit=unit, why=why, subset=subset, weights=weights)

    def _estimate(
        self,
        metric: str,
        estimate: Estimate,
        unit: str,
        why: str | None,
        subsets: Sequence[str],
        parts: Ratio | None = None,
    ) -> None:
        for subset in subsets:
            self.report.estimate(metric, estimate, unit=unit, why=why, subset=subset, parts=parts)
