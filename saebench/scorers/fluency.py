"""Fluency: how probable a continuation is under another language model than the one that wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saebench.data.tokens import first_token
from saebench.errors import DataError, ModelError

if TYPE_CHECKING:
    import torch

    from saebench.lm.model import LanguageModel

_MEMORY = 2**30  # the approximate bytes that a batch may take


class Fluency:
    """The cross-entropy of continuations, given their prompts, under a language model.

    The prompt and its continuation are joined and tokenised together. A token that holds characters of both belongs to
    the continuation. The model is loaded when it is first needed, once per process for all objects with the same
    arguments. A pair of texts that any of them has scored is not scored again.
    """

    def __init__(self, lm_ref: str, *, device: torch.device, dtype: torch.dtype) -> None:
        """Choose the language model ``lm_ref``, which is loaded later, and its device and dtype."""
        self.lm_ref, self.device, self.dtype = lm_ref, device, dtype

    def fingerprint(self) -> str:
        """Return the fingerprint of the language model. Raises ModelError when it cannot be loaded."""
        return _loaded(self.lm_ref, self.device, self.dtype).lm.fingerprint

    def __call__(
        self, prompts: Sequence[str], continuations: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the summed cross-entropy, in nats, and the number of tokens of each continuation.

        Both are 0 for an empty continuation. The perplexity is ``exp(sums.sum() / tokens.sum())``. If a text is longer
        than the model's context, its beginning is left out.

        Args:
            prompts: The prompts, which may be empty.
            continuations: The continuation of each prompt.

        Raises:
            ModelError: The model cannot be loaded, or its tokenizer does not tell the characters of a token.
            DataError: There is not one prompt for each continuation, a continuation alone exceeds the context, or the
                tokenizer has no token to begin a text with.
        """
        if len(prompts) != len(continuations):
            raise DataError(f"{len(continuations)} continuations need as many prompts, not {len(prompts)}.")
        pairs = list(zip(prompts, continuations, strict=True))
        score_of = {pair: (0.0, 0) for pair in pairs if not pair[1]}
        if any(continuations):
            score_of |= _loaded(self.lm_ref, self.device, self.dtype).scores([pair for pair in pairs if pair[1]])
        scores = [score_of[pair] for pair in pairs]
        return np.array([ce for ce, _ in scores], dtype=np.float64), np.array([n for _, n in scores], dtype=np.int64)


@dataclass
class _Scorer:
    """A loaded language model, and the scores of the pairs of texts that it has scored."""

    lm: LanguageModel
    known: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[float, int]]:
        """Return the summed cross-entropy and the number of tokens of each pair."""
        from saebench.lm.batching import for_batches, pick_batch_size

        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        if new:
            encoded = [_Encoded.of(self.lm, *pair) for pair in new]
            # Texts are ordered by length, so that batches need little padding.
            order = sorted(range(len(new)), key=lambda index: len(encoded[index].tokens))
            longest = len(encoded[order[-1]].tokens)

            def work(batch: slice) -> None:
                rows = order[batch]
                sums = _sums(self.lm, [encoded[row] for row in rows])
                self.known.update({new[row]: (ce, encoded[row].scored) for row, ce in zip(rows, sums, strict=True)})

            for_batches(slice(0, len(new)), pick_batch_size(self.lm, longest, _MEMORY), work)
        return {pair: self.known[pair] for pair in pairs}


@cache
def _loaded(lm_ref: str, device: torch.device, dtype: torch.dtype) -> _Scorer:
    from saebench.lm.load import load_lm

    return _Scorer(load_lm(lm_ref, device=device, dtype=dtype))


@dataclass(frozen=True)
class _Encoded:
    """A prompt with its continuation as tokens, of which the first is the tokenizer's first token."""

    tokens: list[int]
    scored: int  # the number of tokens of the continuation, which come last

    @classmethod
    def of(cls, lm: LanguageModel, prompt: str, continuation: str) -> _Encoded:
        """Tokenise a prompt with its continuation."""
        tokenizer = lm.tokenizer
        if not tokenizer.is_fast:
            raise ModelError(
                f"The tokenizer of {lm.name} does not tell which characters a token holds; use a model with a fast "
                "tokenizer to score fluency."
            )
        first = first_token(tokenizer)
        encoded = tokenizer(prompt + continuation, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, ends = encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]
        border = next((place for place, end in enumerate(ends) if end > len(prompt)), len(ids))
        scored = len(ids) - border
        context = getattr(lm.config.get_text_config(), "max_position_embeddings", None) or len(ids) + 1
        if scored >= context:
            raise DataError(
                f"A continuation of {scored} tokens exceeds the context of {lm.name} ({context} tokens, with BOS); "
                "generate fewer tokens."
            )
        return cls([first, *ids[max(0, len(ids) + 1 - context) :]], scored)


def _sums(lm: LanguageModel, texts: Sequence[_Encoded]) -> list[float]:
    """Return the summed cross-entropy of each text's continuation."""
    import torch

    from saebench.lm.losses import cross_entropies

    tokens = torch.zeros(len(texts), max(len(text.tokens) for text in texts), dtype=torch.long)
    for number, text in enumerate(texts):
        tokens[number, : len(text.tokens)] = torch.tensor(text.tokens)  # padding on the right affects no token
    rows = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor([text.scored for text in texts]))
    places = torch.cat([torch.arange(len(text.tokens) - text.scored, len(text.tokens)) for text in texts])
    hidden = lm.full(tokens.to(lm.device))[rows.to(lm.device), places.to(lm.device) - 1]
    ce = cross_entropies(lm.head, hidden, tokens[rows, places].to(lm.device)).double().cpu()
    return torch.zeros(len(texts), dtype=torch.float64).index_add(0, rows, ce).tolist()
