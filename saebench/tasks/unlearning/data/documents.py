"""The documents of the forget text and of the retained texts, in three splits that have no document in common.

Each document is read by itself: BOS, and its last tokens. It is the sampling unit of the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from saebench.data.documents import Documents
from saebench.data.tokens import TokenBatch, tokenize
from saebench.errors import DataError, UsageError
from saebench.passes.context import TaskContext
from saebench.passes.scored import Item
from saebench.tasks.unlearning.settings import UnlearningSettings

Side = Literal["forget", "retain"]
SIDES: tuple[Side, ...] = get_args(Side)
SplitName = Literal["fit", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class DocumentSplit:
    """The documents of one split."""

    forget: list[str]
    retain: list[str]  # one retained text after the other, about as many documents of each

    @property
    def texts(self) -> list[str]:
        """The documents of both sides, the forget side first."""
        return [*self.forget, *self.retain]

    @property
    def is_forget(self) -> NDArray[np.bool_]:
        """Which of `texts` belong to the forget side, ``[documents]``."""
        return np.repeat([True, False], [len(self.forget), len(self.retain)])


def documents(context: TaskContext, settings: UnlearningSettings) -> dict[SplitName, DocumentSplit]:
    """Draw the documents of each split by the seed; they are the same for every SAE.

    The retained texts come in the order of their content hashes, so the order in which the user lists them decides no
    number. Raises what `TaskContext.text` raises, DataError for a text that has too few documents, and UsageError for
    two texts of the same content.
    """
    refs = (settings.forget_text, *settings.retain_texts)
    sizes = (settings.fit_documents, settings.validation_documents, settings.test_documents)
    return context.shared(("unlearning", "documents", refs, sizes), lambda: _draw(context, refs, sizes))


def document_items(context: TaskContext, split: DocumentSplit, settings: UnlearningSettings) -> list[Item]:
    """One item for each document of ``split.texts``, which predicts at most ``predictions`` tokens, evenly spaced.

    Raises:
        UsageError: The model has fewer positions than ``context_length``.
        DataError: A document has only special tokens.
    """
    rows = context.examples(split.texts, settings.context_length).rows
    items = []
    for start, length in zip(rows.starts, rows.lengths, strict=True):
        text = slice(start, start + length)
        places = 1 + np.flatnonzero(rows.evaluated[text][1:])
        spaced = np.linspace(0, len(places) - 1, min(settings.predictions, len(places)))
        kept = places[np.unique(spaced.round().astype(int))]
        items.append(Item(tuple(rows.tokens[text].tolist()), tuple(kept.tolist())))
    return items


def training_batches(context: TaskContext, settings: UnlearningSettings) -> tuple[TokenBatch, TokenBatch]:
    """The documents to fit on, those of each side joined and cut into sequences: what methods that train read."""
    fit = documents(context, settings)["fit"]

    def batch(texts: list[str], side: Side) -> TokenBatch:
        joined = Documents(f"the {side} texts", texts)
        return tokenize(joined, context.lm.tokenizer, settings.context_length, seed=context.seed)

    return batch(fit.forget, "forget"), batch(fit.retain, "retain")


def _draw(context: TaskContext, refs: tuple[str, ...], sizes: tuple[int, ...]) -> dict[SplitName, DocumentSplit]:
    first_of: dict[str, str] = {}
    for ref in refs:
        if (first := first_of.setdefault(context.text(ref).content_hash, ref)) != ref:
            raise UsageError(
                f"{first!r} and {ref!r} hold the same documents, but forget_text and each of retain_texts must be "
                "different texts; leave one of them out."
            )
    refs = (refs[0], *sorted(refs[1:], key=lambda ref: context.text(ref).content_hash))
    forget, *retain = (
        _draw_text(context, ref, sizes if number == 0 else [_share(size, len(refs) - 1, number - 1) for size in sizes])
        for number, ref in enumerate(refs)
    )
    return {
        split: DocumentSplit(forget[split], [document for drawn in retain for document in drawn[split]])
        for split in SPLITS
    }


def _draw_text(context: TaskContext, ref: str, sizes: Sequence[int]) -> dict[SplitName, list[str]]:
    """Draw ``sizes`` documents of a text for the splits, in the order of `SPLITS`."""
    evaluation = context.text(ref).evaluation
    texts = evaluation.texts
    if len(texts) < sum(sizes):
        raise DataError(
            f"{ref!r} has {len(texts)} documents that may be evaluated, and unlearning needs {sum(sizes)} of them; "
            f"use a longer text, or lower {', '.join(f'{split}_documents' for split in SPLITS)}."
        )
    order = context.rng("unlearning:documents", evaluation.content_hash).permutation(len(texts))
    ends = np.cumsum(sizes)
    drawn = [[texts[i] for i in order[end - size : end]] for end, size in zip(ends, sizes, strict=True)]
    return dict(zip(SPLITS, drawn, strict=True))


def _share(total: int, texts: int, number: int) -> int:
    """The number of documents that text ``number`` gives when ``texts`` of them share ``total`` evenly."""
    return total // texts + (number < total % texts)
