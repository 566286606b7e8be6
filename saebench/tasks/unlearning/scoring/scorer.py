"""Runs the language model under the changes of a method, on the documents and the questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saebench.interventions.base import Intervention
from saebench.interventions.vectors import DirectionalAblation
from saebench.interventions.weights import WeightDelta
from saebench.passes.context import TaskContext
from saebench.passes.scored import ScoredItems
from saebench.tasks.unlearning.data.documents import SplitName, document_items, documents
from saebench.tasks.unlearning.data.questions import question_set
from saebench.tasks.unlearning.data.topic import vocabulary
from saebench.tasks.unlearning.methods.directions import side_means
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.scoring.answers import ChosenAnswers, chosen_answers
from saebench.tasks.unlearning.scoring.continuations import Continuations, continuations
from saebench.tasks.unlearning.scoring.curves import Curve, CurvePoint, choose
from saebench.tasks.unlearning.scoring.losses import Known, Losses
from saebench.tasks.unlearning.settings import UnlearningSettings


@dataclass(frozen=True, eq=False)
class MethodResult:
    """What the model does at the setting that validation chose for a method."""

    point: CurvePoint  # the setting
    tried: tuple[Curve, ...]  # the curves that it was chosen from
    test: Losses  # at this setting alone
    answers: ChosenAnswers
    continuations: Continuations


class MethodScorer:
    """Scores methods on the documents and the questions, at one site.

    What does not depend on the SAE, such as clean losses, is computed once for all of them.
    """

    def __init__(self, context: TaskContext, settings: UnlearningSettings, site: str) -> None:
        """Raises what `documents`, `question_set` and `TaskContext.scored` raise."""
        self.context, self.settings, self.site = context, settings, site
        self.questions = question_set(context, settings)
        self._documents = documents(context, settings)
        self._scored: dict[SplitName, ScoredItems] = {}
        self._groups: dict[SplitName, Tensor] = {}  # words of the topic, common tokens and all, [3, predictions]
        words = vocabulary(context, settings)
        for split in ("validation", "test"):
            items = document_items(context, self._documents[split], settings)
            self._scored[split] = context.scored(items, site)
            groups = words.groups([item.tokens[place] for item in items for place in item.predict])
            self._groups[split] = torch.from_numpy(np.concatenate([groups, np.ones_like(groups[:1])])).double()
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

    def known(self, split: SplitName) -> Known:
        """What the unchanged model knows of the documents of a split.

        A model that sees nothing of a document is this one with the mean activation of the retained documents to fit on
        in place of every token's.
        """

        def measure() -> Known:
            scored = self._scored[split]
            mean = side_means(self.context, self.settings, self.site).centre
            [without] = scored.under([DirectionalAblation(self.site, torch.eye(len(mean)), centre=mean)], "mean")
            clean, blind, count = (
                self._sums(split, values) for values in (scored.clean, without, torch.ones_like(without))
            )
            size = self.context.lm.head.vocab_size
            return Known.of(clean, blind, count, self._documents[split].is_forget, size)

        return self.context.shared(("unlearning", "known", self.settings, self.site, split), measure)

    def losses(self, sweeps: Sequence[UnlearningSweep], split: SplitName) -> list[Losses]:
        """The losses of the validation or the test documents at every strength, in passes that the sweeps share.

        Those of a sweep without changes are those of the unchanged model.
        """
        scored, changes = self._scored[split], [change for sweep in sweeps for change in sweep.changes]
        found: Iterator[Tensor] = iter(scored.under(changes, f"{split} documents") if changes else [])
        return [
            self._losses(split, [next(found) if sweep.changes else scored.clean for _ in sweep.strengths])
            for sweep in sweeps
        ]

    def curves(self, sweeps: Sequence[UnlearningSweep]) -> list[Curve]:
        """Score every sweep on the validation documents."""
        validation = self.losses(sweeps, "validation")
        return [Curve(*parts) for parts in zip(sweeps, validation, strict=True)]

    def test(self, points: Sequence[CurvePoint]) -> list[Losses]:
        """The losses of the test documents, each at one setting alone."""
        changes = [point.chosen.change for point in points]
        made = [change for change in changes if change is not None]
        scored = self._scored["test"]
        found: Iterator[Tensor] = iter(scored.under(made, "test documents") if made else [])
        return [self._losses("test", [scored.clean if change is None else next(found)]) for change in changes]

    def answers(self, changes: Sequence[Intervention | None]) -> list[ChosenAnswers]:
        """The answers under each change; None stands for the unchanged model."""
        made = [change for change in changes if change is not None]
        losses: Iterator[Tensor] = iter(self._asked.under(made, "questions") if made else [])
        return [self.clean_answers if change is None else self._answers(next(losses)) for change in changes]

    def continuations(self, change: Intervention | None) -> Continuations:
        """What the model writes under a change; None stands for the unchanged model."""
        return self.clean_continuations if change is None else continuations(self.context, self.settings, change)

    def results(self, tried: Sequence[Sequence[Curve]]) -> list[MethodResult]:
        """Choose the setting of each method by its curves, and measure what is reported at it."""
        points = [choose(curves) for curves in tried]
        changes = [point.chosen.change for point in points]
        return [
            MethodResult(point, tuple(curves), test, answers, self.continuations(change))
            for point, curves, test, answers, change in zip(
                points, tried, self.test(points), self.answers(changes), changes, strict=True
            )
        ]

    def weight_result(self, method: str, delta: WeightDelta | None) -> MethodResult:
        """Score a change of weights, whose strengths are multiples of what training arrived at.

        Args:
            method: The method that trained.
            delta: The change of weights; None if there was nothing to train towards, and nothing is changed.
        """
        sweep = UnlearningSweep(method, self.settings.weight_strengths, (), label=method)
        if delta is None:
            return self.results([self.curves([sweep])])[0]
        _ = self._asked.clean  # computed while the weights are those of the model, and so is what is known
        for split in self._scored:
            self.known(split)
        lm, losses = self.context.lm, []
        for multiple in sweep.strengths:
            with delta.applied(lm, multiple):
                losses.append(self._scored["validation"].as_is())
        curve = Curve(sweep, self._losses("validation", losses))
        point = choose([curve])
        strength = point.chosen.setting.strength
        if strength is None:
            test = self._losses("test", [self._scored["test"].clean])
            return MethodResult(point, (curve,), test, self.clean_answers, self.clean_continuations)
        with delta.applied(lm, strength):
            test = self._losses("test", [self._scored["test"].as_is()])
            answers = self._answers(self._asked.as_is())
            written = continuations(self.context, self.settings, None)
        return MethodResult(point, (curve,), test, answers, written)

    # ------------------------------------------------------------------ inside

    def _answers(self, ce: Tensor) -> ChosenAnswers:
        return chosen_answers(self.questions, self._asked.per_item(ce))

    def _losses(self, split: SplitName, losses: Sequence[Tensor]) -> Losses:
        sums = np.stack([self._sums(split, ce) for ce in losses])
        return Losses(self.known(split), sums[:, 2], sums[:, :2])

    def _sums(self, split: SplitName, ce: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The sums of each document over words of the topic, common tokens and all tokens, ``[3, documents]``."""
        return self._scored[split].per_item(self._groups[split] * ce).numpy()
