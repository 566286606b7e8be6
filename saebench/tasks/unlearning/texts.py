"""What is read: documents of the text to be forgotten and of those to be retained, in three parts without overlap.

A document is read by itself, BOS first, its last tokens. It is the sampling unit, and no document is in two parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.data.documents import Documents
from saebench.data.tokens import TokenBatch, tokenize
from saebench.errors import DataError, UsageError
from saebench.passes.context import TaskContext
from saebench.passes.examples import TokenRows
from saebench.passes.scored import Item

Parameters = dict[str, Any]
PARTS = ("fit", "validation", "test")


@dataclass(frozen=True)
class Part:
    """Documents on both sides."""

    forget: list[str]
    retain: list[str]  # as many from each text that is to be retained, one text after the other

    @property
    def texts(self) -> list[str]:
        return [*self.forget, *self.retain]

    @property
    def is_forget(self) -> NDArray[np.bool_]:
        """``[documents]``, in the order of ``texts``."""
        return np.repeat([True, False], [len(self.forget), len(self.retain)])


def parts(context: TaskContext, parameters: Parameters) -> dict[str, Part]:
    """The documents of each of `PARTS`, drawn by the seed, the same for every SAE.

    Raises UsageError for texts that cannot be set against each other, DataError for one with too few documents.
    """
    refs, sizes = _references(parameters), tuple(parameters[f"{part}_documents"] for part in PARTS)
    return context.shared(("unlearning", "parts", refs, sizes), lambda: _draw(context, refs, sizes))


def items(rows: TokenRows, predictions: int) -> list[Item]:
    """One item for each text, with at most ``predictions`` of its tokens, evenly spaced, to be predicted."""
    found = []
    for start, length in zip(rows.starts, rows.lengths, strict=True):
        text = slice(start, start + length)
        places = 1 + np.flatnonzero(rows.evaluated[text][1:])
        kept = np.unique(np.linspace(0, len(places) - 1, min(predictions, len(places))).round().astype(int))
        found.append(Item(tuple(rows.tokens[text].tolist()), tuple(places[kept].tolist())))
    return found


def part_items(context: TaskContext, part: Part, parameters: Parameters) -> list[Item]:
    """The items of a part, in the order of its ``texts``. Raises UsageError, DataError for texts that do not do."""
    return items(context.examples(part.texts, parameters["context_length"]).rows, parameters["predictions"])


def training_batches(context: TaskContext, part: Part, parameters: Parameters) -> tuple[TokenBatch, TokenBatch]:
    """The documents of both sides joined and cut into sequences, for fine-tuning."""

    def batch(texts: list[str], side: str) -> TokenBatch:
        documents = Documents(f"the {side} texts", texts)
        return tokenize(documents, context.lm.tokenizer, parameters["context_length"], seed=context.seed)

    return batch(part.forget, "forget"), batch(part.retain, "retain")


def _references(parameters: Parameters) -> tuple[str, ...]:
    forget, retain = parameters["forget_text"], parameters["retain_texts"]
    if not retain:
        raise UsageError("Parameter 'retain_texts' of task 'unlearning' is empty; name a text that is to be retained.")
    if len({forget, *retain}) <= len(retain):
        raise UsageError(
            "The texts of task 'unlearning' must differ: the same reference stands twice in forget_text and "
            f"retain_texts ({', '.join([forget, *retain])})."
        )
    return (forget, *retain)


def _draw(context: TaskContext, refs: tuple[str, ...], sizes: tuple[int, ...]) -> dict[str, Part]:
    if min(sizes) < len(refs) - 1:
        raise UsageError(
            f"{len(refs) - 1} texts are to be retained, so {', '.join(f'{p}_documents' for p in PARTS)} must be "
            f"{len(refs) - 1} each at least."
        )
    drawn: list[dict[str, list[str]]] = []
    for number, ref in enumerate(refs):
        wanted = sizes if number == 0 else tuple(_share(size, len(refs) - 1, number - 1) for size in sizes)
        texts = context.text(ref).evaluation.texts
        if len(texts) < sum(wanted):
            raise DataError(
                f"{ref!r} has {len(texts)} documents that may be evaluated, and unlearning needs {sum(wanted)} of it; "
                f"use a longer text, or fewer of {', '.join(f'{p}_documents' for p in PARTS)}."
            )
        order = context.rng(f"unlearning:documents:{ref}").permutation(len(texts))
        ends = np.cumsum(wanted)
        chosen = [[texts[i] for i in order[end - size : end]] for end, size in zip(ends, wanted, strict=True)]
        drawn.append(dict(zip(PARTS, chosen, strict=True)))
    forget, *retain = drawn
    return {part: Part(forget[part], [text for each in retain for text in each[part]]) for part in PARTS}


def _share(total: int, parts: int, number: int) -> int:
    """How many of ``total`` the part ``number`` gets when they are dealt out evenly."""
    return total // parts + (number < total % parts)
