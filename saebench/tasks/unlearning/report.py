"""Results of all methods into measurements with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.scorers.collapse import answer_entropy
from saebench.scorers.text import repeated
from saebench.stats.intervals import Estimate, bootstrap_ratio
from saebench.stats.proportions import weighted_proportion
from saebench.tasks.unlearning.continuations import Written
from saebench.tasks.unlearning.curves import (
    Changes,
    Figure,
    Floats,
    Resamples,
    at_budget,
    in_box,
    percentile,
    selectivity,
)
from saebench.tasks.unlearning.evaluate import Result
from saebench.tasks.unlearning.questions import SIDES, Answers, QuestionSet

CLEAN = "clean"  # subset of the unchanged model


class Report:
    """Measurements of one SAE, method by method (the subset)."""

    def __init__(
        self, resamples: Resamples, questions: QuestionSet, clean: Answers, parameters: dict[str, Any]
    ) -> None:
        self.out = TaskOutput(measurements=[])
        self._resamples, self._questions, self._clean = resamples, questions, clean
        self._figures: dict[str, Figure] = {
            "forget_delta_ce_at_budget": at_budget(parameters["retain_budget"]),
            "hypervolume": in_box(parameters["box_forget"], parameters["box_retain"]),
            "selectivity": selectivity,
        }
        self._known: dict[tuple[str, int], tuple[float, Floats]] = {}
        self._sides = dict(zip(SIDES, (questions.is_forget, ~questions.is_forget), strict=True))

    # ------------------------------------------------------------------ documents

    def documents(self, subsets: Sequence[str], result: Result) -> None:
        """At the chosen setting, and along the sweep; the same numbers for each of ``subsets``."""
        for side in SIDES:
            sums, counts = result.changes.of(forget=side == "forget")
            self._ratio(f"{side}_delta_ce", sums[0], counts, "document", side, subsets)
        if result.curve is not None:
            for metric in self._figures:
                value, replicates = self._figure(metric, result.curve.test)
                self._add(metric, percentile(value, replicates, _smaller(result.curve.test)), "document", None, subsets)

    def difference(self, metric: str, result: Result, other: Result) -> None:
        """At the budget, on the same samples of documents."""
        assert result.curve is not None
        assert other.curve is not None
        tests = (result.curve.test, other.curve.test)
        (one, ones), (two, twos) = (self._figure("forget_delta_ce_at_budget", test) for test in tests)
        self._add(metric, percentile(one - two, ones - twos, _smaller(tests[0])), "document", None, [""])

    def gate(self, open_: NDArray[np.bool_], is_forget: NDArray[np.bool_]) -> None:
        """DSG's gate on the test documents."""
        for side, rows in zip(SIDES, (is_forget, ~is_forget), strict=True):
            hits = open_[rows].astype(float)
            units = (hits, np.ones_like(hits))
            add(self.out, "dsg_gate_open", weighted_proportion(hits), "document", None, side, units)

    # ------------------------------------------------------------------ questions

    def answers(self, subsets: Sequence[str], answers: Answers) -> None:
        """How many answers are right, what changed, and whether the model is broken."""
        changed = CLEAN not in subsets
        for side, rows in self._sides.items():
            ones = np.ones(int(rows.sum()))
            unit = (ones, "question", f"question:{side}", subsets)
            self._ratio(f"question_accuracy_{side}", answers.correct[rows], *unit)
            if changed:
                change = answers.correct - self._clean.correct
                self._ratio(f"question_accuracy_{side}_change", change[rows], *unit)
                self._ratio(f"question_margin_{side}_change", (answers.margin - self._clean.margin)[rows], *unit)
        if changed:
            why = "the unchanged model answers the forget questions no better than chance, or no retain question right"
            self._asked("alignment", lambda weights: self._alignment(answers, weights), why, subsets)
        n_choices = max(len(question.choices) for question in self._questions.questions)
        self._asked("answer_entropy", lambda weights: _entropy(answers.choice, weights, n_choices), None, subsets)
        known = np.isfinite(answers.shortest)
        short = weighted_proportion(answers.shortest[known])
        self._add("shortest_answer_share", short, "question", "all answers are equally long", subsets)

    def repetition(self, subsets: Sequence[str], written: Written) -> None:
        """Share of repeated 4-grams in continuations, the first half of them of forget documents."""
        half = len(written) // 2
        for side, texts in zip(SIDES, (written[:half], written[half:]), strict=True):
            if texts:
                again, total = (np.array(each, float) for each in zip(*map(repeated, texts), strict=True))
                self._ratio(f"repetition_{side}", again, total, "document", f"written:{side}", subsets)

    def saebench_score(self, settings: Sequence[Answers]) -> None:
        """1 - the least accuracy on forget questions among settings that spare the others, on what was known before."""
        why = "the unchanged model answers no question of one side right"
        self._asked("saebench_unlearning_score", lambda weights: self._saebench(settings, weights), why, [""])

    def _alignment(self, answers: Answers, weights: Floats) -> float:
        forget, retain = self._sides["forget"] * weights, self._sides["retain"] * weights
        base = _mean(self._clean.correct, retain)
        chance = _mean(self._questions.chance, forget)
        known = _mean(self._clean.correct, forget) - chance
        if not base > 0 or not known > 0:
            return float("nan")
        left = float(np.clip((_mean(answers.correct, forget) - chance) / known, 0, 1))
        return _mean(answers.correct, retain) / base * (1 - left)

    def _saebench(self, settings: Sequence[Answers], weights: Floats) -> float:
        forget, retain = (self._sides[side] * weights * self._clean.correct for side in SIDES)
        if not forget.any() or not retain.any():
            return float("nan")
        spared = [_mean(each.correct, forget) for each in settings if _mean(each.correct, retain) >= 0.99]
        return 1 - min([1.0, *spared])

    # ------------------------------------------------------------------ inside

    def _figure(self, metric: str, test: Changes) -> tuple[float, Floats]:
        """Of a sweep, and of every sample of documents; computed once."""
        key = (metric, id(test))
        if key not in self._known:
            self._known[key] = self._resamples.figure(test, self._figures[metric])
        return self._known[key]

    def _ratio(self, metric: str, num: Floats, den: Floats, unit: str, drawn: str, subsets: Sequence[str]) -> None:
        estimate = bootstrap_ratio(num, den, self._resamples.weights(len(num), drawn))
        for subset in subsets:
            add(self.out, metric, estimate, unit, "there is nothing to score on this side", subset, (num, den))

    def _asked(self, metric: str, figure: Callable[[Floats], float], why: str | None, subsets: Sequence[str]) -> None:
        """A figure of the questions of both sides, recomputed on every sample of them."""
        n = len(self._questions.questions)
        drawn = np.zeros((self._resamples.replicates, n))
        for side, rows in self._sides.items():
            drawn[:, rows] = self._resamples.weights(int(rows.sum()), f"question:{side}")
        replicates = np.array([figure(weights) for weights in drawn])
        self._add(metric, percentile(figure(np.ones(n)), replicates, n), "question", why, subsets)

    def _add(self, metric: str, estimate: Estimate, unit: str, why: str | None, subsets: Sequence[str]) -> None:
        for subset in subsets:
            add(self.out, metric, estimate, unit, why, subset)


def trade_off(results: Mapping[str, Result]) -> dict[str, NDArray[np.float32]]:
    """Every setting that was tried, ``trade_off/METHOD``, ``[settings, 6]``.

    Columns: number of the sweep, strength, rise on forget and on retained documents of validation, the same of test,
    in nats per token.
    """
    found = {}
    for method, result in results.items():
        rows = [
            [number, strength, *point]
            for number, curve in enumerate(result.tried)
            for strength, *point in zip(
                curve.sweep.strengths, *curve.validation.rises(), *curve.test.rises(), strict=True
            )
        ]
        if rows:
            found[f"trade_off/{method}"] = np.array(rows, np.float32)
    return found


def _smaller(test: Changes) -> int:
    """Documents of the side that has fewer: they are resampled apart."""
    return int(min(test.is_forget.sum(), (~test.is_forget).sum()))


def _mean(values: Floats, weights: Floats) -> float:
    total = float(weights.sum())
    return float(values @ weights) / total if total else float("nan")


def _entropy(choice: NDArray[np.int64], weights: Floats, n_choices: int) -> float:
    """In units of that of even answers."""
    return answer_entropy(np.repeat(choice, weights.astype(int)), n_choices) / float(np.log2(n_choices))
