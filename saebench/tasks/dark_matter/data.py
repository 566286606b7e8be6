"""The texts that are read: documents to fit the predictions on, and other documents to evaluate them on.

The predictions are fitted on the calibration documents where these hold enough tokens; everything is then evaluated on
the documents on which every other task evaluates, so that the passes are shared. Where the calibration documents hold
too few tokens, half of the evaluation documents joins them, and the other half is evaluated.
"""

from __future__ import annotations

import math
from dataclasses import replace

from saebench.data.documents import Documents
from saebench.data.split import split_documents
from saebench.data.tokens import TokenBatch, tokenize
from saebench.errors import DataError
from saebench.passes.captured import CapturedText
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.tasks.dark_matter.settings import DarkMatterSettings


def fit_text(sae: SAE, context: TaskContext, settings: DarkMatterSettings) -> CapturedText:
    """The activations that the error of ``sae`` is fitted on. Raises what `fit_batch` raises."""
    return _captured(fit_batch(context, settings, sae.d_in), sae, context)


def evaluation_text(sae: SAE, context: TaskContext, settings: DarkMatterSettings) -> CapturedText:
    """The activations that ``sae`` is evaluated on. Raises what `evaluation_batch` raises."""
    captured = _captured(evaluation_batch(context, settings, sae.d_in), sae, context)
    captured.complete(f"evaluation text at {sae.hook}", lambda shard: None)
    return captured


def fit_batch(context: TaskContext, settings: DarkMatterSettings, d: int) -> TokenBatch:
    """Sequences that hold at least ``tokens_per_dimension`` evaluated tokens for each of ``d`` dimensions.

    Raises:
        UsageError: The context is too long for the language model.
        DataError: The text has fewer tokens; the message says how many.
    """
    return _batches(context, settings, d)[0]


def evaluation_batch(context: TaskContext, settings: DarkMatterSettings, d: int) -> TokenBatch:
    """The sequences on which a prediction from ``d`` dimensions is evaluated.

    Raises:
        UsageError: The context is too long for the language model.
        DataError: The text has too few tokens to fit on, or no token to evaluate.
    """
    return _batches(context, settings, d)[1]


def loss_batch(context: TaskContext, settings: DarkMatterSettings, d: int) -> TokenBatch:
    """The first ``loss_sequences`` of the evaluation sequences."""
    batch = evaluation_batch(context, settings, d)
    first = slice(settings.loss_sequences)
    return TokenBatch(batch.tokens[first], batch.evaluated[first], batch.n_documents)


def _captured(batch: TokenBatch, sae: SAE, context: TaskContext) -> CapturedText:
    captured = context.capture(batch)
    captured.want(sae.hook.site_in, sae.hook.site_out)
    return captured


def _batches(context: TaskContext, settings: DarkMatterSettings, d: int) -> tuple[TokenBatch, TokenBatch]:
    sizes = (settings.context_length, settings.skip_positions, settings.sequences, settings.tokens_per_dimension)
    return context.shared(
        ("dark_matter", "texts", d, settings.text, *sizes), lambda: _make_batches(context, settings, d)
    )


def _make_batches(context: TaskContext, settings: DarkMatterSettings, d: int) -> tuple[TokenBatch, TokenBatch]:
    """The sequences to fit on and those to evaluate on."""
    ref, wanted = settings.text, settings.tokens_per_dimension * d
    context.batch(ref, settings.context_length, 2)  # refuses contexts that are too long for the model
    split = context.text(ref)
    evaluation = split.evaluation
    fit, available = _first(split.calibration, context, settings, wanted)
    if available < wanted and len(evaluation.texts) > 1:
        halves = split_documents(evaluation, context.rng("dark_matter", evaluation.content_hash), share=0.5)
        evaluation = halves.evaluation
        more = replace(split.calibration, texts=[*split.calibration.texts, *halves.calibration.texts])
        fit, available = _first(more, context, settings, wanted)
    if fit is None or available < wanted:
        raise DataError(
            f"The calibration documents of {ref!r} and half of the others give {available:,} tokens to fit on, but "
            f"predicting from {d} dimensions takes {wanted:,} ({settings.tokens_per_dimension} for each); "
            "use a longer text, or fewer tokens_per_dimension (30 is the least)."
        )
    batch = _tokenize(evaluation, context, settings, settings.sequences)
    if not bool(batch.evaluated.any()):
        raise DataError(
            f"Text {ref!r} gives no token to evaluate after the first {settings.skip_positions} positions of each "
            "sequence; use a text that the tokenizer knows, or fewer skip_positions."
        )
    return fit, batch


def _first(
    documents: Documents, context: TaskContext, settings: DarkMatterSettings, wanted: int
) -> tuple[TokenBatch | None, int]:
    """The first sequences that hold ``wanted`` evaluated tokens, or else all there are, and how many they hold.

    None and 0 where the documents fill fewer than two sequences.
    """
    sequences = max(2, math.ceil(wanted / (settings.context_length - max(1, settings.skip_positions))))
    while True:
        try:
            batch = _tokenize(documents, context, settings, sequences)
        except DataError:
            return None, 0
        available = int(batch.evaluated.sum())
        if available >= wanted or batch.n_missing:
            return batch, available
        # Special tokens, which are not evaluated, took some of the places.
        sequences = max(sequences + 1, math.ceil(sequences * wanted / max(1, available)))


def _tokenize(documents: Documents, context: TaskContext, settings: DarkMatterSettings, sequences: int) -> TokenBatch:
    batch = tokenize(documents, context.lm.tokenizer, settings.context_length, sequences, context.seed)
    evaluated = batch.evaluated.clone()
    evaluated[:, : settings.skip_positions] = False
    return replace(batch, evaluated=evaluated)
