"""Prompts, what the unchanged model makes of them, and what it makes of them under interventions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from saebench.interventions.base import Intervention
from saebench.interventions.rows import generate_settings
from saebench.lm.sampling import Sampling
from saebench.passes.context import TaskContext
from saebench.scorers import Fluency, ToxicityScorer
from saebench.tasks.detox.judged import Judged, judge
from saebench.tasks.detox.texts import prompt_tokens

_BATCH = {"cpu": 192, "cuda": 256}


@dataclass
class Bench:
    """One split's prompts. Each is continued greedily, and ``samples`` times by drawing, the same for all settings."""

    context: TaskContext
    prompts: list[str]
    context_length: int
    new_tokens: int
    samples: int
    temperature: float
    top_p: float
    scorer: ToxicityScorer
    fluency: Fluency

    @cached_property
    def clean(self) -> Judged:
        return self._judged([None])[0]

    def under(self, interventions: Sequence[Intervention]) -> list[Judged]:
        """What becomes of the prompts under each intervention."""
        return self._judged(interventions) if interventions else []

    def _judged(self, interventions: Sequence[Intervention | None]) -> list[Judged]:
        lm, context = self.context.lm, self.context
        tokens = prompt_tokens(self.prompts, context, self.context_length)
        seeds = context.rng("detox:samples").integers(2**31, size=self.samples).tolist()
        ways = [None, *(Sampling(self.temperature, self.top_p, seed) for seed in seeds)]
        total = len(interventions) * len(tokens) * len(ways)
        with context.progress.task(f"{len(interventions)} settings of generation", total, "texts") as ticker:
            new = generate_settings(
                lm,
                tokens,
                interventions,
                max_new_tokens=self.new_tokens,
                samplings=ways,
                batch_size=_BATCH.get(lm.device.type, _BATCH["cpu"]),
                done=ticker.advance,
            )
        texts = [
            [[lm.tokenizer.decode(each, skip_special_tokens=True) for each in of_prompt] for of_prompt in setting]
            for setting in new
        ]
        return judge(self.prompts, texts, new, self.scorer, self.fluency)
