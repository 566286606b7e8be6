"""What a changed model writes: greedy continuations of test documents, which show whether it is broken."""

from __future__ import annotations

from typing import Any

from saebench.interventions.base import Intervention
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.rows import generate_settings
from saebench.passes.context import TaskContext
from saebench.tasks.unlearning.texts import Part

Written = list[list[int]]  # new tokens by prompt


def prompts(context: TaskContext, part: Part, parameters: dict[str, Any]) -> Written:
    """The first half of the first ``generation_documents`` documents of each side, forget side first."""
    n = parameters["generation_documents"]
    rows = context.examples(part.texts, parameters["context_length"]).rows
    starts = len(part.forget)
    chosen = [*range(min(n, starts)), *range(starts, starts + min(n, len(part.retain)))]
    ends = {i: rows.starts[i] + max(2, rows.lengths[i] // 2) for i in chosen}
    return [rows.tokens[rows.starts[i] : ends[i]].tolist() for i in chosen]


def write(context: TaskContext, given: Written, intervention: Intervention | None, new_tokens: int) -> Written:
    """Greedy continuations. DSG's gate runs along: what is still to be written it cannot see."""
    if isinstance(intervention, DynamicGuardrail):
        intervention = DynamicGuardrail(intervention.latents, tau=intervention.tau, value=intervention.value)
    [found] = generate_settings(context.lm, given, [intervention], max_new_tokens=new_tokens)
    return [continuation for [continuation] in found]
