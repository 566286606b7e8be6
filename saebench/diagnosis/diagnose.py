"""The diagnosis of one SAE, from its reference to the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from saebench.data.tokens import TokenBatch
from saebench.diagnosis.activations import capture
from saebench.diagnosis.measure import measure
from saebench.diagnosis.parts import selects_k
from saebench.diagnosis.published import Published, published
from saebench.diagnosis.sites import other_hooks
from saebench.diagnosis.variants import Case, as_loaded, variants
from saebench.diagnosis.verdict import Row, Verdict, judge
from saebench.errors import NotApplicableError
from saebench.lm.facts import Facts
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.sae.ref import Reference
from saebench.sae.trained_on import trained_on

CONTEXT_LENGTH, SEQUENCES = 128, 16
_FEWEST = 4  # sequences, without which there is no standard error to speak of


@dataclass(frozen=True)
class Diagnosis:
    """The numbers of an SAE and of its variants on a text, and what follows.

    Attributes:
        loaded: The SAE as it is loaded.
        others: Its variants.
        published: What is known of its numbers.
        verdict: What follows.
        sequences: The number of sequences that were read.
        context_length: The tokens of a sequence.
    """

    loaded: Row
    others: tuple[Row, ...]
    published: Published
    verdict: Verdict
    sequences: int
    context_length: int


@torch.no_grad()
def diagnose(ref: Reference, sae: SAE, context: TaskContext, text: str, sequences: int = SEQUENCES) -> Diagnosis:
    """Return whether an SAE is loaded right, or as which of its variants it should be.

    Args:
        ref: The reference of the SAE.
        sae: The SAE, on the CPU.
        context: The language model.
        text: A reference to the text that it reads.
        sequences: The number of sequences of up to 128 tokens, at least 4.

    Raises:
        NotApplicableError: It is a control that is made rather than loaded, it has several hook points, or the text is
            too short.
        UsageError: The text does not exist.
        DataError: The text cannot be used.
    """
    known = published(ref, sae)
    _check_applicable(sae, known)
    batch = _batch(sae, context, text, sequences)
    hooks = [sae.hook, *other_hooks(sae.hook)]
    sites = [site for hook in hooks for site in (hook.site_in, hook.site_out)]
    key = ("diagnosis", batch.content_hash, tuple(sites), sae.hook.sites)
    activations = context.shared(key, lambda: capture(context.lm, batch, sites, sae.hook.sites))
    case = Case(ref, sae, activations, known, Facts(context.lm).ignores_mean())

    loaded = Row(as_loaded(case), measure(case.loaded, sae, activations, case.source))
    case = replace(case, gain=loaded.fit.gain)
    others = tuple(
        Row(variant, measure(reconstruct, sae, activations, variant.source)) for variant, reconstruct in variants(case)
    )
    fixed = case.parts is not None and selects_k(case.parts.activation)
    verdict = judge(loaded, others, known, fixed)
    return Diagnosis(loaded, others, known, verdict, *batch.tokens.shape)


def _check_applicable(sae: SAE, known: Published) -> None:
    if sae.control and known.fvu is None:
        raise NotApplicableError(f"{sae.name} is a control, which is made and not loaded.")
    if sae.hook.several:
        raise NotApplicableError(f"{sae.name} has several hook points, and the variants are those of one.")


def _batch(sae: SAE, context: TaskContext, text: str, sequences: int) -> TokenBatch:
    positions = getattr(context.lm.config.get_text_config(), "max_position_embeddings", None)
    length = min(CONTEXT_LENGTH, positions or CONTEXT_LENGTH, trained_on(sae).context_size or CONTEXT_LENGTH)
    batch = context.batch(text, max(2, length), sequences)
    if len(batch.tokens) < _FEWEST:
        raise NotApplicableError(
            f"The text {text} gives {len(batch.tokens)} sequences of {length} tokens, and the verdict needs {_FEWEST}."
        )
    return batch
