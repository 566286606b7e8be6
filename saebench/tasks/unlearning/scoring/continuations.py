"""What a changed model writes: greedy continuations of test documents, which show whether it is broken."""

from __future__ import annotations

from saebench.interventions.base import Intervention
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.rows import generate_settings
from saebench.passes.context import TaskContext
from saebench.tasks.unlearning.data.documents import documents
from saebench.tasks.unlearning.settings import UnlearningSettings

Continuations = list[list[int]]  # the new tokens of each prompt, the forget side first


def continuations(
    context: TaskContext, settings: UnlearningSettings, intervention: Intervention | None
) -> Continuations:
    """Continue the first half of test documents of both sides; there are none with ``generation_documents`` 0.

    The gate of a dynamic guardrail looks only at the tokens so far, because it cannot see what is still to be written.
    """
    prompts = _prompts(context, settings)
    if not prompts:
        return []
    if isinstance(intervention, DynamicGuardrail):
        intervention = DynamicGuardrail(intervention.latents, tau=intervention.tau, value=intervention.value)
    [written] = generate_settings(context.lm, prompts, [intervention], max_new_tokens=settings.new_tokens)
    return [continuation for [continuation] in written]


def _prompts(context: TaskContext, settings: UnlearningSettings) -> list[list[int]]:
    """The tokens of the first half of the first ``generation_documents`` test documents of each side."""
    test, n = documents(context, settings)["test"], settings.generation_documents
    rows = context.examples(test.texts, settings.context_length).rows
    first_retain = len(test.forget)
    chosen = [*range(min(n, first_retain)), *range(first_retain, first_retain + min(n, len(test.retain)))]
    ends = {i: rows.starts[i] + max(2, rows.lengths[i] // 2) for i in chosen}
    return [rows.tokens[rows.starts[i] : ends[i]].tolist() for i in chosen]
