"""What is read: documents to fit on and documents to evaluate on, apart from each other.

The calibration documents are fitted to when they hold enough tokens, and everything is evaluated on the documents on
which every other task evaluates, so that its passes are shared. When they hold too few, half of the evaluation
documents joins them, and the other half is evaluated.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from saebench.data.documents import Documents
from saebench.data.split import split_documents
from saebench.data.tokens import TokenBatch, tokenize
from saebench.errors import DataError, UsageError
from saebench.passes.context import TaskContext

Parameters = dict[str, Any]


def fit_batch(context: TaskContext, parameters: Parameters, d: int) -> TokenBatch:
    """Sequences that hold ``tokens_per_dimension`` evaluated tokens for each of ``d`` dimensions, at least.

    Raises DataError naming how many there are when the text has fewer.
    """
    return _texts(context, parameters, d)[0]


def evaluation_batch(context: TaskContext, parameters: Parameters, d: int) -> TokenBatch:
    """The sequences on which a predictor from ``d`` dimensions is evaluated.

    Raises DataError when no token of them can be evaluated, and errors as `fit_batch`.
    """
    return _texts(context, parameters, d)[1]


def loss_batch(context: TaskContext, parameters: Parameters, d: int) -> TokenBatch:
    """The first ``loss_sequences`` of the evaluation sequences."""
    batch = evaluation_batch(context, parameters, d)
    first = slice(parameters["loss_sequences"])
    return TokenBatch(batch.tokens[first], batch.evaluated[first], batch.n_documents)


def _texts(context: TaskContext, parameters: Parameters, d: int) -> tuple[TokenBatch, TokenBatch]:
    names = ("text", "context_length", "skip_positions", "sequences", "tokens_per_dimension")
    key = ("dark_matter", "texts", d, *(parameters[name] for name in names))
    return context.shared(key, lambda: _make(context, parameters, parameters["tokens_per_dimension"] * d, d))


def _make(context: TaskContext, parameters: Parameters, wanted: int, d: int) -> tuple[TokenBatch, TokenBatch]:
    ref, length = parameters["text"], parameters["context_length"]
    if parameters["skip_positions"] >= length - 1:
        raise UsageError(
            f"skip_positions={parameters['skip_positions']} leaves less than two positions of "
            f"context_length={length}; use a longer context."
        )
    context.batch(ref, length, 2)  # refuses contexts that are too long for the model
    split = context.text(ref)
    fit, evaluation = _first(split.calibration, context, parameters, wanted), split.evaluation
    found = int(fit.evaluated.sum()) if fit is not None else 0
    if found < wanted and len(split.evaluation.texts) > 1:
        halves = split_documents(split.evaluation, context.rng(f"dark_matter:{ref}"), share=0.5)
        evaluation = halves.evaluation
        more = replace(split.calibration, texts=[*split.calibration.texts, *halves.calibration.texts])
        fit = _first(more, context, parameters, wanted)
        found = int(fit.evaluated.sum()) if fit is not None else 0
    if fit is None or found < wanted:
        raise DataError(
            f"The calibration documents of {ref!r} and half of the others give {found:,} tokens to fit on, but "
            f"predicting from {d} dimensions takes {wanted:,} ({parameters['tokens_per_dimension']} for each); "
            "use a longer text, or fewer tokens_per_dimension (30 is the least)."
        )
    batch = _tokenize(evaluation, context, parameters, parameters["sequences"])
    if not bool(batch.evaluated.any()):
        raise DataError(f"Text {ref!r} gives no token to evaluate after skip_positions; see there.")
    return fit, batch


def _first(documents: Documents, context: TaskContext, parameters: Parameters, wanted: int) -> TokenBatch | None:
    """The first sequences that hold ``wanted`` evaluated tokens, else all there are; None without two sequences."""
    sequences = max(2, math.ceil(wanted / (parameters["context_length"] - max(1, parameters["skip_positions"]))))
    while True:
        try:
            batch = _tokenize(documents, context, parameters, sequences)
        except DataError:
            return None
        found = int(batch.evaluated.sum())
        if found >= wanted or batch.n_missing:
            return batch
        sequences = max(sequences + 1, math.ceil(sequences * wanted / max(1, found)))  # special tokens took some places


def _tokenize(documents: Documents, context: TaskContext, parameters: Parameters, sequences: int) -> TokenBatch:
    batch = tokenize(documents, context.lm.tokenizer, parameters["context_length"], sequences, context.seed)
    evaluated = batch.evaluated.clone()
    evaluated[:, : parameters["skip_positions"]] = False
    return replace(batch, evaluated=evaluated)
