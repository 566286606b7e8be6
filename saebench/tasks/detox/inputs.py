"""Everything that SAEs share: texts, prompts with their clean continuations, neutral text, and the clean utility."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from saebench.data import assets
from saebench.errors import UsageError, did_you_mean
from saebench.harness import require_lm_eval
from saebench.interventions.base import Intervention
from saebench.interventions.steer import TIERS
from saebench.lm.reference import parse_lm_ref
from saebench.passes.context import TaskContext
from saebench.passes.scored import ScoredItems, text_items
from saebench.scorers import Fluency, ToxicityScorer, toxicity_scorer
from saebench.tasks.detox.bench import Bench
from saebench.tasks.detox.choice import Limits
from saebench.tasks.detox.latents import POOLINGS
from saebench.tasks.detox.texts import Split, splits

if TYPE_CHECKING:
    from saebench.harness.utility import Utility

Parameters = dict[str, Any]

# What is tested beside the chosen setting, at its strength where it has one.
METHODS = ("tiers", "zero", "random_latents", "noise", "diffmean")
_INSTEAD = "asset:gemma-3-270m"  # scores fluency when `fluency_lm` is itself the model that writes


@dataclass
class Inputs:
    """What a run gives to every SAE; made once for each context and set of parameters (`inputs`)."""

    context: TaskContext
    parameters: Parameters
    scorer: ToxicityScorer
    fluency: Fluency
    splits: dict[str, Split]
    limits: Limits

    @cached_property
    def validation(self) -> Bench:
        """Greedy continuations of `sweep_tokens`: what settings are chosen by."""
        return self._bench("validation", self.parameters["sweep_tokens"], 0)

    @cached_property
    def test(self) -> Bench:
        return self._bench("test", self.parameters["new_tokens"], self.parameters["samples"])

    def neutral(self, site: str) -> ScoredItems:
        """Clean text, to see what an intervention at ``site`` breaks."""
        given = self.parameters
        batch = self.context.batch(given["text"], given["context_length"], given["sequences"])
        return self.context.scored(text_items(batch, given["predictions"] or None), site)

    def utility(self, intervention: Intervention | None) -> dict[str, Utility]:
        """lm-eval's scores by task. Raises UsageError when lm-eval is missing, or does not know a task."""
        from saebench.harness.utility import evaluate_utility

        given = self.parameters
        return evaluate_utility(
            self.context.lm,
            intervention,
            given["utility_tasks"],
            limit=given["utility_limit"],
            seed=self.context.seed,
        )

    @cached_property
    def clean_utility(self) -> dict[str, Utility] | str:
        """Of the unchanged model, or why there is none; empty when none is asked for."""
        if not (self.parameters["utility_limit"] and self.parameters["utility_tasks"]):
            return {}
        try:
            require_lm_eval()
        except UsageError as error:
            return str(error)
        return self.utility(None)

    def _bench(self, split: str, new_tokens: int, samples: int) -> Bench:
        given = self.parameters
        return Bench(
            context=self.context,
            prompts=self.splits[split].prompts,
            context_length=given["context_length"],
            new_tokens=new_tokens,
            samples=samples,
            temperature=given["temperature"],
            top_p=given["top_p"],
            scorer=self.scorer,
            fluency=self.fluency,
        )


def inputs(context: TaskContext, parameters: Parameters) -> Inputs:
    """The same object for all SAEs. Raises UsageError, DataError and AssetError for what cannot be used."""
    key = repr(sorted(parameters.items()))
    return context.shared(("detox", "inputs", key), lambda: _inputs(context, parameters))


def _inputs(context: TaskContext, parameters: Parameters) -> Inputs:
    _check(parameters)
    scorer = toxicity_scorer(parameters["scorer"])
    return Inputs(
        context=context,
        parameters=parameters,
        scorer=scorer,
        fluency=_fluency(context, parameters["fluency_lm"]),
        splits=splits(context, parameters, scorer),
        limits=Limits(parameters["max_perplexity_ratio"], parameters["max_broken_increase"]),
    )


def _fluency(context: TaskContext, wanted: str) -> Fluency:
    """The model is loaded when it first scores. Raises UsageError (reference), AssetError (asset not there)."""
    ref = parse_lm_ref(_INSTEAD if wanted == context.lm.name else wanted)
    if ref.scheme == "asset":
        assets.path(ref.name)
    return Fluency(str(ref), device=context.lm.device, dtype=context.lm.dtype)


def _check(parameters: Parameters) -> None:
    for name, known in (("pooling", POOLINGS), ("tiers", TIERS), ("methods", METHODS)):
        given = parameters[name]
        for value in given if isinstance(given, list) else [given]:
            if value not in known:
                raise UsageError(
                    f"Parameter {name!r} of task 'detox' is made of {', '.join(known)}; there is no {value!r}."
                    f"{did_you_mean(value, known)}"
                )
    for name in ("tiers", "strengths", "diffmean_strengths", "latents"):
        values = parameters[name]
        if not values or len(set(values)) < len(values):
            raise UsageError(f"Parameter {name!r} of task 'detox' needs one value or more, each once, not {values}.")
        if name != "tiers" and min(values) <= 0:
            raise UsageError(f"Parameter {name!r} of task 'detox' must hold numbers above 0, not {values}.")
