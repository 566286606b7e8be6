"""Documents to token sequences of equal length."""

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

CHUNK = 64  # documents per call of the tokenizer: enough for its threads, few enough to stop early


class HasTexts(Protocol):
    @property
    def ref(self) -> str: ...

    @property
    def texts(self) -> list[str]: ...


@dataclass(frozen=True)
class TokenBatch:
    """Sequences of equal length. ``evaluated`` is False at special tokens (BOS, EOS, padding, ...)."""

    tokens: Int[Tensor, "sequences context"]  # int64
    evaluated: Bool[Tensor, "sequences context"]
    n_documents: int  # documents with at least one token in here
    n_missing: int = 0  # sequences that were asked for but that the text does not yield

    @cached_property
    def content_hash(self) -> str:
        """sha256 over shape and tokens."""
        shape = f"{tuple(self.tokens.shape)}|".encode()
        return hashlib.sha256(shape + self.tokens.numpy().astype("<i8").tobytes()).hexdigest()


def tokenize(
    documents: HasTexts,
    tokenizer: PreTrainedTokenizerBase,
    context_length: int,
    limit: int | None = None,
    seed: int = 0,
) -> TokenBatch:
    """Cut documents into sequences of ``context_length`` tokens, the first of each being BOS.

    The documents are shuffled (by ``seed``), tokenised without special tokens, joined with an EOS after each, and cut;
    the incomplete last sequence is dropped. ``limit`` is a number of sequences: because of the shuffle they are a
    random sample. A tokenizer without BOS has its EOS put first.

    Raises UsageError (``context_length`` or ``limit`` below 2), DataError (too little text, no BOS and no EOS).
    """
    import torch

    if context_length < 2:
        raise UsageError(f"The context length must be at least 2 tokens, not {context_length}.")
    if limit is not None and limit < 2:
        raise UsageError(f"The limit must be at least 2 sequences, not {limit}: intervals are made from sequences.")
    first = first_token(tokenizer)
    last = first if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)  # after each document
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
            f"Text {documents.ref!r} has only {total} tokens, too few for two sequences of {context_length}; "
            "use a longer text or a smaller context length."
        )
    kept = rows * body
    # Documents that lie wholly in the dropped rest are not part of the batch.
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
    """The token that every sequence begins with: BOS, or EOS for a tokenizer without BOS.

    Raises DataError for a tokenizer that has neither.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is None and eos is None:
        raise DataError(
            "The tokenizer has neither a BOS nor an EOS token, so no sequence can begin; use a model whose tokenizer "
            "defines one."
        )
    return int(eos if bos is None else bos)


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    for start in range(0, len(texts), CHUNK):
        # verbose=False: documents may be longer than the model's context, they are cut afterwards.
        yield from tokenizer(list(texts[start : start + CHUNK]), add_special_tokens=False, verbose=False)["input_ids"]
