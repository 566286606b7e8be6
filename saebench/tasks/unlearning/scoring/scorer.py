"""Runs the language model under the changes of a method, on the documents and the questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from saebench.interventions.base import Intervention
from saebench.interventions.weights import WeightDelta
from saebench.passes.context import TaskContext
from saebench.passes.scored import ScoredItems
from saebench.tasks.unlearning.data.documents import SplitName, document_items, documents
from saebench.tasks.unlearning.data.questions import question_set
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.scoring.answers import ChosenAnswers, chosen_answers
from saebench.tasks.unlearning.scoring.continuations import Continuations, continuations
from saebench.tasks.unlearning.scoring.curves import Curve, CurvePoint, LossRises
from saebench.tasks.unlearning.selection import choose
from saebench.tasks.unlearning.settings import UnlearningSettings


@dataclass(frozen=True, eq=False)
class SettingResult:
    """What the model does at one setting of a method."""

    test: LossRises  # of one strength
    answers: ChosenAnswers
    continuations: Continuations
    setting: dict[str, Any]  # as the notes of a record hold it


@dataclass(frozen=True, eq=False)
class MethodResult(SettingResult):
    """What the model does at the setting that validation chose for a method, and along the method's sweeps."""

    point: CurvePoint  # the setting
    tried: tuple[Curve, ...]  # the curves that it was chosen from

    @classmethod
    def at(
        cls, point: CurvePoint, tried: Sequence[Curve], answers: ChosenAnswers, continuations: Continuations
    ) -> MethodResult:
        """The result at a point of one of the curves."""
        return cls(point.test, answers, continuations, point.note(), point, tuple(tried))


class MethodScorer:
    """Scores methods on the documents and the questions, at one site.

    What does not depend on the SAE, such as clean losses, is computed once for all of them.
    """

    def __init__(self, context: TaskContext, settings: UnlearningSettings, site: str) -> None:
        """Raises what `documents`, `question_set` and `TaskContext.scored` raise."""
        self.context, self.settings, self.site = context, settings, site
        self.questions = question_set(context, settings)
        self._documents = documents(context, settings)
        self._scored: dict[SplitName, ScoredItems] = {
            split: context.scored(document_items(context, self._documents[split], settings), site)
            for split in ("validation", "test")
        }
        self._asked = context.scored(self.questions.items, site)

    @cached_property
    def clean_answers(self) -> ChosenAnswers:
        """The answers of the unchanged model."""
        return self._answers(self._asked.clean)

    @cached_property
    def clean_continuations(self) -> Continuations:
        """What the unchanged model writes."""
        key = ("unlearning", "continuations", self.settings)
        return self.context.shared(key, lambda: continuations(self.context, self.settings, None))

    def rises(self, sweeps: Sequence[UnlearningSweep], split: SplitName) -> list[LossRises]:
        """How much each sweep raises the loss of the validation or the test documents, in passes that they share.

        A sweep without changes does not raise it at any strength.
        """
        scored, changes = self._scored[split], [change for sweep in sweeps for change in sweep.changes]
        losses: Iterator[Tensor] = iter(scored.under(changes, f"{split} documents") if changes else [])
        return [
            self._rises(split, [next(losses) if sweep.changes else scored.clean for _ in sweep.strengths])
            for sweep in sweeps
        ]

    def curves(self, sweeps: Sequence[UnlearningSweep]) -> list[Curve]:
        """Score every sweep on the validation and the test documents."""
        validation, test = self.rises(sweeps, "validation"), self.rises(sweeps, "test")
        return [Curve(*parts) for parts in zip(sweeps, validation, test, strict=True)]

    def answers(self, changes: Sequence[Intervention | None]) -> list[ChosenAnswers]:
        """The answers under each change; None stands for the unchanged model."""
        made = [change for change in changes if change is not None]
        losses: Iterator[Tensor] = iter(self._asked.under(made, "questions") if made else [])
        return [self.clean_answers if change is None else self._answers(next(losses)) for change in changes]

    def continuations(self, change: Intervention | None) -> Continuations:
        """What the model writes under a change; None stands for the unchanged model."""
        return self.clean_continuations if change is None else continuations(self.context, self.settings, change)

    def result(self, curves: Sequence[Curve]) -> MethodResult:
        """Choose the setting of a method by its curves, and ask the questions at it."""
        point = choose(curves, self.settings.retain_budget)
        change = point.chosen.change
        return MethodResult.at(point, curves, self.answers([change])[0], self.continuations(change))

    def weight_result(self, method: str, delta: WeightDelta | None) -> MethodResult:
        """Score a change of weights, whose strengths are multiples of what training arrived at.

        Args:
            method: The method that trained.
            delta: The change of weights; None if there was nothing to train towards, and nothing is changed.
        """
        sweep = UnlearningSweep(method, self.settings.weight_strengths, (), label=method)
        if delta is None:
            return self.result(self.curves([sweep]))
        for scored in (*self._scored.values(), self._asked):
            _ = scored.clean  # computed while the weights are those of the model
        lm = self.context.lm
        losses: dict[SplitName, list[Tensor]] = {split: [] for split in self._scored}
        for multiple in sweep.strengths:
            with delta.applied(lm, multiple):
                for split, scored in self._scored.items():
                    losses[split].append(scored.as_is())
        curves = [Curve(sweep, *(self._rises(split, losses[split]) for split in self._scored))]
        point = choose(curves, self.settings.retain_budget)
        strength = point.chosen.setting.strength
        if strength is None:
            return MethodResult.at(point, curves, self.clean_answers, self.clean_continuations)
        with delta.applied(lm, strength):
            answers = self._answers(self._asked.as_is())
            written = continuations(self.context, self.settings, None)
        return MethodResult.at(point, curves, answers, written)

    # ------------------------------------------------------------------ inside

    def _answers(self, ce: Tensor) -> ChosenAnswers:
        return chosen_answers(self.questions, self._asked.per_item(ce))

    def _rises(self, split: SplitName, losses: Sequence[Tensor]) -> LossRises:
        scored = self._scored[split]
        sums = np.stack([scored.per_item(ce - scored.clean).numpy() for ce in losses])
        return LossRises(sums, scored.counts.numpy(), self._documents[split].is_forget)
