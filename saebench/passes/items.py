"""Items to be scored: texts as tokens, and the places in them whose tokens' probabilities are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from saebench.data.tokens import TokenBatch
from saebench.errors import DataError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 256  # texts per call of the tokenizer


@dataclass(frozen=True)
class Item:
    """A text, BOS first, and the places (>= 1) of the tokens whose probability is wanted, in ascending order.

    An item without places is allowed; it has no predictions. Raises DataError for places that do not ascend or that
    the text does not have.
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
    """One item for each sequence, in order; it predicts the evaluated tokens, from the second token on.

    With ``predictions`` it predicts as many of them, evenly spaced, or all where there are no more. The unembedding
    takes most of a pass on a CPU, so that few predictions on more sequences say more in the same time. A sequence of
    special tokens alone becomes an item without predictions. Raises UsageError for ``predictions`` below 1.
    """
    if predictions is not None and predictions < 1:
        raise UsageError(f"At least 1 prediction of each sequence has to be scored, not {predictions}.")
    found = []
    for tokens, evaluated in zip(batch.tokens.numpy(), batch.evaluated.numpy(), strict=True):
        places = np.flatnonzero(evaluated[1:]) + 1
        if predictions is not None and predictions < len(places):
            places = places[(2 * np.arange(predictions) + 1) * len(places) // (2 * predictions)]
        found.append(Item(tuple(tokens.tolist()), tuple(places.tolist())))
    return found


def answer_items(
    prompts_and_answers: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, context_length: int
) -> list[Item]:
    """BOS, prompt and answer of each pair, in order; the answer's tokens are wanted.

    As in lm-eval, white space at the end of a prompt goes to its answer, and the answer's tokens are what is left of
    those of prompt and answer together after as many as the prompt has alone. Prompts that are too long are cut on the
    left, after BOS. A tokenizer without BOS has its EOS put first.

    Raises UsageError for a context length below 2, DataError for an answer without a token of its own, one that does
    not fit into the context, and a tokenizer with neither BOS nor EOS.
    """
    if context_length < 2:
        raise UsageError(f"The context length must be at least 2 tokens, not {context_length}.")
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise DataError("The tokenizer has neither a BOS nor an EOS token to begin a prompt with.")
    prompts = [prompt.rstrip() for prompt, _ in prompts_and_answers]
    wholes = [prompt + answer for prompt, answer in prompts_and_answers]
    # Prompts come in groups with several answers each: every prompt is tokenised once.
    unique = list(dict.fromkeys(prompts))
    alone = dict(zip(unique, _encoded(tokenizer, unique), strict=True))
    found = []
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
        found.append(Item(tokens, tuple(range(len(tokens) - wanted, len(tokens)))))
    return found


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        yield from tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]
