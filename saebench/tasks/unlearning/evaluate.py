"""What every method does to the documents and the questions, all scored at one hook."""

from __future__ import annotations

import json
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
from saebench.stats.frontier import effect_at_cost
from saebench.tasks.unlearning.continuations import Written, prompts, write
from saebench.tasks.unlearning.curves import Changes, Chosen, Curve, choose
from saebench.tasks.unlearning.methods import Sweep
from saebench.tasks.unlearning.questions import Answers, QuestionSet, question_set
from saebench.tasks.unlearning.texts import Part, part_items, parts


@dataclass(frozen=True, eq=False)
class Result:
    """What is reported of one method: its chosen setting on the test documents, and the answers under it."""

    changes: Changes  # one strength
    answers: Answers
    setting: dict[str, object]  # for the notes
    written: Written  # continuations at the setting
    curve: Curve | None = None  # the whole sweep; None for a control that has a single setting
    tried: tuple[Curve, ...] = ()  # all sweeps of the method
    promise: tuple[float, float] = (0.0, 0.0)  # on validation: forgetting at the setting, and at the budget


class Evaluation:
    """Documents and questions at one site. What does not depend on an SAE is computed once for all of them."""

    def __init__(self, context: TaskContext, site: str, parameters: dict[str, Any]) -> None:
        self.context, self.site, self.parameters = context, site, parameters
        self.parts: dict[str, Part] = parts(context, parameters)
        self.questions: QuestionSet = question_set(context, parameters)
        self._scored = {
            part: self._of(part_items(context, self.parts[part], parameters)) for part in ("validation", "test")
        }
        self._asked = self._of(list(self.questions.items))

    @cached_property
    def clean(self) -> Answers:
        """Of the unchanged model."""
        return self._answers(self._asked.clean)

    def changes(self, sweeps: Sequence[Sweep], part: str) -> list[Changes]:
        """One for each sweep, on the part ``validation`` or ``test``. A sweep without interventions changes nothing."""
        scored, interventions = self._scored[part], [each for sweep in sweeps for each in sweep.interventions]
        found: Iterator[Tensor] = iter(scored.under(interventions, f"{part} documents") if interventions else [])
        return [
            self._changes(part, (next(found) if sweep.interventions else scored.clean for _ in sweep.strengths))
            for sweep in sweeps
        ]

    def curves(self, sweeps: Sequence[Sweep]) -> list[Curve]:
        validation, test = (self.changes(sweeps, part) for part in ("validation", "test"))
        return [Curve(*each) for each in zip(sweeps, validation, test, strict=True)]

    def answers(self, interventions: Sequence[Intervention | None]) -> list[Answers]:
        """Under each intervention; None changes nothing."""
        given = [each for each in interventions if each is not None]
        found: Iterator[Tensor] = iter(self._asked.under(given, "questions") if given else [])
        return [self.clean if each is None else self._answers(next(found)) for each in interventions]

    @cached_property
    def written(self) -> Written:
        """Continuations by the unchanged model."""
        key = ("unlearning", "written", json.dumps(self.parameters, sort_keys=True))
        return self.context.shared(key, lambda: self._write(None))

    def continue_under(self, intervention: Intervention | None) -> Written:
        """Continuations by the model under it; None changes nothing."""
        return self.written if intervention is None else self._write(intervention)

    def result(self, curves: Sequence[Curve]) -> Result:
        """The setting of a method that validation chooses."""
        chosen = choose(curves, self.parameters["retain_budget"])
        intervention = intervention_of(chosen)
        return self._result(chosen, self.answers([intervention])[0], self.continue_under(intervention), curves)

    def weight_result(self, name: str, delta: WeightDelta) -> Result:
        """The same for a change of weights, whose strengths are multiples of what training arrived at."""
        strengths = tuple(self.parameters["weight_strengths"])
        for scored in (*self._scored.values(), self._asked):
            _ = scored.clean  # while the weights are those of the model
        lm = self.context.lm
        found: dict[str, list[Tensor]] = {part: [] for part in self._scored}
        for strength in strengths:
            with delta.applied(lm, strength):
                for part, scored in self._scored.items():
                    found[part].append(scored.as_is())
        curve = Curve(
            Sweep(name, strengths, ()),
            self._changes("validation", found["validation"]),
            self._changes("test", found["test"]),
        )
        chosen = choose([curve], self.parameters["retain_budget"])
        answers, written = self.clean, self.written
        if chosen.strength is not None:
            with delta.applied(lm, strengths[chosen.strength]):
                answers, written = self._answers(self._asked.as_is()), self._write(None)
        return self._result(chosen, answers, written, [curve])

    def unchanged(self, name: str, strengths: tuple[float, ...]) -> Result:
        """Of a method that found nothing to change."""
        return self.result(self.curves([Sweep(name, strengths, ())]))

    # ------------------------------------------------------------------ inside

    def _write(self, intervention: Intervention | None) -> Written:
        given = prompts(self.context, self.parts["test"], self.parameters)
        return write(self.context, given, intervention, self.parameters["new_tokens"]) if given else []

    def _result(self, chosen: Chosen, answers: Answers, written: Written, curves: Sequence[Curve]) -> Result:
        budget = self.parameters["retain_budget"]
        at_budget = effect_at_cost(*chosen.curve.validation.rises(), budget)
        promise = (chosen.forget, at_budget)
        return Result(chosen.test, answers, chosen.describe(), written, chosen.curve, tuple(curves), promise)

    def _of(self, items: list[Any]) -> ScoredItems:
        return self.context.scored(items, self.site)

    def _answers(self, ce: Tensor) -> Answers:
        return self.questions.answers(self._asked.per_item(ce))

    def _changes(self, part: str, found: Iterator[Tensor] | list[Tensor]) -> Changes:
        scored = self._scored[part]
        sums = np.stack([scored.per_item(ce - scored.clean).numpy() for ce in found])
        return Changes(sums, scored.counts.numpy(), self.parts[part].is_forget)


def intervention_of(chosen: Chosen) -> Intervention | None:
    """None where nothing is changed."""
    if chosen.strength is None or not chosen.curve.sweep.interventions:
        return None
    return chosen.curve.sweep.interventions[chosen.strength]
