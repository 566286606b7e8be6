"""Prompts, and what the language model writes after them: unchanged, and under interventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from saebench.data import assets
from saebench.interventions.base import Intervention
from saebench.interventions.rows import generate_settings
from saebench.lm.reference import parse_lm_ref
from saebench.lm.sampling import Sampling
from saebench.passes.context import TaskContext
from saebench.scorers import Fluency, ToxicityScorer, toxicity_scorer
from saebench.stats.rng import NO_CONTENT
from saebench.tasks.detox.data import prompt_tokens, splits
from saebench.tasks.detox.scoring.judgement import Judgement, judge
from saebench.tasks.detox.settings import DetoxSettings

_BATCH = {"cpu": 192, "cuda": 256}  # continuations at a time
_OTHER_FLUENCY_LM = "asset:gemma-3-270m"  # scores fluency where `fluency_lm` is the model that writes


@dataclass
class PromptSet:
    """The test prompts, which the language model continues and whose continuations are judged.

    Each prompt is continued greedily, and ``samples`` times by drawing with the same random numbers under every
    intervention.
    """

    context: TaskContext
    settings: DetoxSettings
    prompts: list[str]
    new_tokens: int  # of each continuation
    samples: int
    scorer: ToxicityScorer
    fluency: Fluency

    @cached_property
    def clean(self) -> Judgement:
        """The judgement of what the unchanged model writes."""
        return self._judge([None])[0]

    def under(self, changes: Sequence[Intervention]) -> list[Judgement]:
        """Judge what the model writes under each intervention."""
        return self._judge(changes) if changes else []

    def by_subset(self, changes: Mapping[str, Sequence[Intervention | None]]) -> dict[str, list[Judgement]]:
        """Judge what the model writes under the interventions of each subset, unchanged where one is None.

        Where subsets have the same intervention, its continuations are generated once.
        """
        every = [change for of_subset in changes.values() for change in of_subset if change is not None]
        distinct = list({id(change): change for change in every}.values())
        judgements = {id(change): judged for change, judged in zip(distinct, self.under(distinct), strict=True)}
        judgements[id(None)] = self.clean
        return {subset: [judgements[id(change)] for change in of_subset] for subset, of_subset in changes.items()}

    def _judge(self, changes: Sequence[Intervention | None]) -> list[Judgement]:
        lm, settings = self.context.lm, self.settings
        tokens = prompt_tokens(self.prompts, self.context, settings.context_length)
        seeds = self.context.rng("detox:samples", NO_CONTENT).integers(2**31, size=self.samples).tolist()
        samplings = [None, *(Sampling(settings.temperature, settings.top_p, seed) for seed in seeds)]
        total = len(changes) * len(tokens) * len(samplings)
        with self.context.progress.task(f"{len(changes)} settings of generation", total, "texts") as ticker:
            written = generate_settings(
                lm,
                tokens,
                changes,
                max_new_tokens=self.new_tokens,
                samplings=samplings,
                batch_size=_BATCH.get(lm.device.type, _BATCH["cpu"]),
                done=ticker.advance,
            )
        texts = [
            [[lm.tokenizer.decode(new, skip_special_tokens=True) for new in continuations] for continuations in setting]
            for setting in written
        ]
        return judge(self.prompts, texts, written, self.scorer, self.fluency)


def prompt_set(context: TaskContext, settings: DetoxSettings) -> PromptSet:
    """Return the test prompts, the same object for all SAEs.

    Raises:
        UsageError: The toxicity scorer is not installed, or ``fluency_lm`` does not refer to a model.
        AssetError: The model that scores fluency is an asset that is missing.
        SaebenchError: `splits` refuses the texts or the prompts.
    """
    return context.shared(("detox", "prompts", settings), lambda: _prompt_set(context, settings))


def _prompt_set(context: TaskContext, settings: DetoxSettings) -> PromptSet:
    scorer = toxicity_scorer(settings.scorer)
    fluency = _fluency(context, settings.fluency_lm)
    return PromptSet(
        context=context,
        settings=settings,
        prompts=splits(context, settings)["test"].prompts,
        new_tokens=settings.new_tokens,
        samples=settings.samples,
        scorer=scorer,
        fluency=fluency,
    )


def fluency_data(context: TaskContext, settings: DetoxSettings) -> dict[str, str]:
    """Return the fingerprint of the model that scores fluency, by its reference, where that is a folder.

    The same folder may have several names; other references name one model only. Raises what `prompt_set` raises.
    """
    if parse_lm_ref(settings.fluency_lm).scheme != "path":
        return {}
    return {f"fluency_lm:{settings.fluency_lm}": _fluency_of(context, settings.fluency_lm).fingerprint()}


def _fluency(context: TaskContext, lm_ref: str) -> Fluency:
    """Return the scorer of fluency, whose model is loaded when it first scores, or to see if it is the one that writes.

    Where one of the two is a folder, their names do not tell whether they are the same model.
    """
    fluency = _fluency_of(context, lm_ref)
    names = (lm_ref, context.lm.name)
    folders = any(parse_lm_ref(name).scheme == "path" for name in names)
    same = fluency.fingerprint() == context.lm.fingerprint if folders else len(set(names)) == 1
    return _fluency_of(context, _OTHER_FLUENCY_LM) if same else fluency


def _fluency_of(context: TaskContext, lm_ref: str) -> Fluency:
    ref = parse_lm_ref(lm_ref)
    if ref.scheme == "asset":
        assets.path(ref.name)  # refuses a missing asset now rather than after the first SAE was steered
    return Fluency(lm_ref, device=context.lm.device, dtype=context.lm.dtype)
