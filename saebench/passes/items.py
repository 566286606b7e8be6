"""Items to be scored: the tokens of a text, and the places of those tokens whose probability is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saebench.data.tokens import TokenBatch, first_token
from saebench.errors import DataError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 256  # texts per call of the tokenizer


@dataclass(frozen=True)
class Item:
    """The tokens of a text, BOS first, and the places in ascending order of those to be predicted.

    Places count from 0, and BOS cannot be predicted. An item without places is allowed; it has no predictions. Raises
    DataError for places that do not ascend or that lie outside the text.
    """

    tokens: tuple[int, ...]
    predict: tuple[int, ...]

    def __post_init__(self) -> None:
        bounds = (0, *self.predict, len(self.tokens))
        if any(after <= before for before, after in pairwise(bounds)):
            raise DataError(
                f"The places of an item's predictions must ascend from 1 to {len(self.tokens) - 1}, the last token of "
                f"its text, unlike {list(self.predict)[:10]}."
            )


def text_items(batch: TokenBatch, predictions: int | None = None) -> list[Item]:
    """One item for each sequence of ``batch``, in order, which predicts the sequence's evaluated tokens.

    With ``predictions`` an item predicts only that many of them, evenly spaced. Since the unembedding takes most of a
    pass on a CPU, few predictions on many sequences tell more in the same time. A sequence that holds only special
    tokens becomes an item without predictions. Raises UsageError for ``predictions`` below 1.
    """
    if predictions is not None and predictions < 1:
        raise UsageError(f"At least 1 prediction of each sequence has to be scored, not {predictions}.")
    items = []
    for tokens, evaluated in zip(batch.tokens.numpy(), batch.evaluated.numpy(), strict=True):
        places = np.flatnonzero(evaluated[1:]) + 1
        places = places if predictions is None else evenly_spaced(places, predictions)
        items.append(Item(tuple(tokens.tolist()), tuple(places.tolist())))
    return items


def evenly_spaced(places: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """``n`` of the places, evenly spaced, or all of them where there are no more."""
    return places[(2 * np.arange(n) + 1) * len(places) // (2 * n)] if n < len(places) else places


def answer_items(
    prompts_and_answers: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, context_length: int
) -> list[Item]:
    """One item for each pair: BOS, the prompt, and the answer, whose tokens are predicted.

    As in lm-eval, white space at the end of a prompt belongs to its answer, and the answer's tokens are those of the
    whole text after as many tokens as the prompt has alone. A prompt that is too long loses its beginning.

    Raises:
        UsageError: The context length is below 2.
        DataError: An answer has no token of its own or does not fit into the context, or the tokenizer has neither BOS
            nor EOS.
    """
    if context_length < 2:
        raise UsageError(f"The context length must be at least 2 tokens, not {context_length}.")
    first = first_token(tokenizer)
    prompts = [prompt.rstrip() for prompt, _ in prompts_and_answers]
    wholes = [prompt + answer for prompt, answer in prompts_and_answers]
    # Several answers share a prompt, which is tokenised only once.
    unique = list(dict.fromkeys(prompts))
    alone = dict(zip(unique, _encoded(tokenizer, unique), strict=True))
    items = []
    for pair, prompt, whole in zip(prompts_and_answers, prompts, _encoded(tokenizer, wholes), strict=True):
        ids = [*alone[prompt], *whole[len(alone[prompt]) :]]
        wanted = len(ids) - len(alone[prompt])
        if wanted < 1:
            raise DataError(
                f"The answer {pair[1]!r} has no token of its own after the prompt that ends in {pair[0][-40:]!r}; give "
                "an answer that is longer or begins with a space."
            )
        if wanted > context_length - 1:
            raise DataError(
                f"The answer {pair[1][:40]!r} has {wanted} tokens, but only {context_length - 1} fit into the context "
                "beside BOS; use a larger context length."
            )
        tokens = (int(first), *ids[-(context_length - 1) :])
        items.append(Item(tokens, tuple(range(len(tokens) - wanted, len(tokens)))))
    return items


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        yield from tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]
