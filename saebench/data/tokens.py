"""The division of documents into token sequences of equal length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from saebench.errors import DataError, UsageError
from saebench.stats.rng import generator

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

CHUNK = 64  # the documents per call of the tokenizer: enough for its threads, and few enough to stop early


class HasTexts(Protocol):
    """A text whose documents can be tokenised, such as `Documents`."""

    @property
    def ref(self) -> str: ...

    @property
    def texts(self) -> list[str]: ...


@dataclass(frozen=True)
class TokenBatch:
    """Token sequences of equal length."""

    tokens: Int[Tensor, "sequences context"]  # int64
    evaluated: Bool[Tensor, "sequences context"]  # False at special tokens such as BOS, EOS and padding
    n_documents: int  # the number of documents that have at least one token in the sequences
    n_missing: int = 0  # the number of wanted sequences for which the text is too short

    @cached_property
    def content_hash(self) -> str:
        """The sha256 of the shape and the tokens."""
        shape = f"{tuple(self.tokens.shape)}|".encode()
        return hashlib.sha256(shape + self.tokens.numpy().astype("<i8").tobytes()).hexdigest()


def tokenize(
    documents: HasTexts,
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    limit: int | None = None,
    seed: int = 0,
) -> TokenBatch:
    """Cut documents into sequences of equal length, each of which begins with the tokenizer's first token.

    The documents are shuffled, tokenised without special tokens, joined with an EOS after each of them, and cut. An
    incomplete last sequence is dropped.

    Args:
        documents: The documents.
        tokenizer: The tokenizer. See `first_token` for tokenizers without BOS.
        context_length: The number of tokens of a sequence.
        limit: The most sequences, which are a random sample because of the shuffle; by default all of them.
        seed: The seed of the shuffle.

    Raises:
        UsageError: ``context_length`` or ``limit`` is below 2.
        DataError: There is too little text, or the tokenizer has neither BOS nor EOS.
    """
    import torch

    if context_length < 2:
        raise UsageError(f"The context length must be at least 2 tokens, not {context_length}.")
    if limit is not None and limit < 2:
        raise UsageError(f"The limit must be at least 2 sequences, not {limit}: intervals are made from sequences.")
    first = first_token(tokenizer)
    last = first if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)  # follows each document
    body = context_length - 1
    wanted = None if limit is None else limit * body
    order = generator(seed, "documents").permutation(len(documents.texts))
    pieces: list[np.ndarray] = []
    total = n_documents = 0
    for ids in _encode(tokenizer, [documents.texts[i] for i in order]):
        pieces.append(np.array([*ids, last], dtype=np.int64))
        total += len(ids) + 1
        n_documents += 1
        if wanted is not None and total >= wanted:
            break
    rows = total // body if limit is None else min(total // body, limit)
    if rows < 2:
        raise DataError(
            f"The text {documents.ref!r} has only {total} tokens, too few for two sequences of {context_length}; "
            "use a longer text or a smaller context length."
        )
    kept = rows * body
    # Documents that lie entirely in the dropped rest do not count.
    starts = np.cumsum([0, *(len(piece) for piece in pieces[:-1])])
    stream = np.concatenate(pieces)[:kept]
    tokens = np.concatenate([np.full((rows, 1), first, dtype=np.int64), stream.reshape(rows, body)], axis=1)
    return TokenBatch(
        tokens=torch.from_numpy(tokens),
        evaluated=torch.from_numpy(~np.isin(tokens, tokenizer.all_special_ids)),
        n_documents=int((starts[:n_documents] < kept).sum()),
        n_missing=0 if limit is None else limit - rows,
    )


def first_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that every sequence begins with: BOS, or EOS if the tokenizer has no BOS.

    Raises:
        DataError: The tokenizer has neither.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is None and eos is None:
        raise DataError(
            "The tokenizer has neither a BOS nor an EOS token for sequences to begin with; use a model whose tokenizer "
            "defines one."
        )
    return int(eos if bos is None else bos)


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), CHUNK):
        # verbose=False, because documents may be longer than the model's context; they are cut afterwards.
        yield from tokenizer(list(texts[start : start + CHUNK]), add_special_tokens=False, verbose=False)["input_ids"]
