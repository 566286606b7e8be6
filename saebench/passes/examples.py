"""Activations of texts that are read one by one, shared by every SAE, task and run.

The texts are sorted by length and cut into blocks of about equal cost. They are padded on the right, which changes
nothing, because the model is causal. A block is one batch of a pass, and the unit of caching.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.cache.tensors import Series, TensorCache
from saebench.data.tokens import first_token
from saebench.errors import DataError, UsageError
from saebench.lm.batching import for_batches, host_buffer, pick_batch_size, to_device
from saebench.lm.model import LanguageModel
from saebench.passes.keys import cache_key
from saebench.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tokens of a block, padding included. Larger blocks pad short texts more and are no faster on a CPU; on a GPU they
# save launches.
_BLOCK_TOKENS = {"cpu": 512, "cuda": 16384}
_CHUNK = 256  # texts per call of the tokenizer
_FORMAT = 1  # raise it when the passes compute something else


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class TokenRows:
    """The tokens of several texts in one row, each text after a BOS; ``evaluated`` is False at special tokens."""

    tokens: NDArray[np.int32]  # [all tokens]
    evaluated: NDArray[np.bool_]  # [all tokens]
    lengths: NDArray[np.int64]  # [texts]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def content_hash(self) -> str:
        """sha256 over lengths, tokens and which of them are evaluated."""
        parts = (self.lengths.astype("<i8"), self.tokens.astype("<i4"), self.evaluated)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def tokenize_examples(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, context_length: int) -> TokenRows:
    """BOS and the last ``context_length - 1`` tokens of each text: long texts lose their beginning (2502.16681).

    Raises:
        UsageError: The context length is below 2.
        DataError: There is no text, a text has only special tokens, or the tokenizer has neither BOS nor EOS.
    """
    if context_length < 2:
        raise UsageError(f"The context length must be at least 2 tokens, not {context_length}.")
    if not texts:
        raise DataError("There is no text to read; give at least one example.")
    first = first_token(tokenizer)
    rows: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        for ids in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]:
            rows.append(np.array([first, *ids[-(context_length - 1) :]], dtype=np.int32))
    tokens, lengths = np.concatenate(rows), np.array([len(row) for row in rows], dtype=np.int64)
    read = TokenRows(tokens, ~np.isin(tokens, tokenizer.all_special_ids), lengths)
    empty = np.add.reduceat(read.evaluated, read.starts, dtype=np.int64) == 0
    if empty.any():
        row = int(empty.argmax())
        raise DataError(
            f"Example {row} ({texts[row][:40]!r}) has no token but special ones in its last {context_length - 1}; "
            "leave it out."
        )
    return read


class Examples:
    """The activations of the unmodified model on texts that are read one by one.

    Tensors are returned on the CPU in float32. The cache keeps the model's own values in its dtype, so that later runs
    get the same numbers bit for bit.
    """

    def __init__(
        self,
        lm: LanguageModel,
        rows: TokenRows,
        cache: TensorCache,
        memory: int,
        progress: Progress,
        batch_size: int | None = None,
    ) -> None:
        """``memory`` is what the passes may take, in bytes; ``batch_size`` replaces the one derived from it."""
        self.lm, self.rows = lm, rows
        self.n = len(rows.lengths)
        self._cache, self._memory, self._progress, self._batch_size = cache, memory, progress, batch_size
        self._block_tokens = _BLOCK_TOKENS.get(lm.device.type, _BLOCK_TOKENS["cpu"])
        self._blocks = blocks_of_lengths(rows.lengths, self._block_tokens)
        self._most = self._block_tokens  # tokens of one batch; fewer once memory has run out
        self._sites: list[str] = []
        self._series: dict[tuple[str, str], Series] = {}  # by kind ("last", "tokens") and site

    def want(self, *sites: str) -> None:
        """Have the next pass capture these sites as well. Raises HookMismatchError."""
        kinds = {"last"} | {kind for kind, _ in self._series}
        for site in sites:
            if site not in self._sites:
                self.lm.d_at(site)
                self._sites.append(site)
        self._keep(*kinds)

    def last(self, site: str) -> Tensor:
        """The activation at the last token of each text that is not special, ``[texts, d]``."""
        last = torch.empty(self.n, self.lm.d_at(site))
        for block, values in self._each_block("last", site):
            last[torch.from_numpy(block)] = values.float()
        return last

    def tokens(self, site: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield blocks of activations ``[tokens, d]`` at all tokens that are not special, and each token's text.

        The second tensor, ``[tokens]``, holds the number of the text that a token belongs to. Blocks hold whole texts,
        the shortest first, and some hundred or thousand tokens, unless a single text is longer.
        """
        for block, values in self._each_block("tokens", site):
            counts = [int(self._evaluated(row).sum()) for row in block]
            yield values.float(), torch.from_numpy(np.repeat(block, counts))

    # ------------------------------------------------------------------ inside

    def _each_block(self, kind: str, site: str) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        self.want(site)
        self._keep("last", kind)
        description = f"activations of {self.n} examples at {site}"
        with self._progress.task(description, len(self.rows.tokens), "tokens") as ticker:
            for index, block in enumerate(self._blocks):
                stored = self._series[kind, site].read(slice(index, index + 1))
                values = stored["values"] if stored is not None else self._compute(index)[kind, site]
                ticker.advance(int(self.rows.lengths[block].sum()))
                yield block, values

    def _keep(self, *kinds: str) -> None:
        for kind in kinds:
            for site in self._sites:
                if (kind, site) not in self._series:
                    self._series[kind, site] = self._cached(kind, site)

    def _cached(self, kind: str, site: str) -> Series:
        tokens, block = self.rows.content_hash, self._block_tokens
        key = cache_key(self.lm, f"examples, {kind}", _FORMAT, site=site, tokens=tokens, block=block)
        return self._cache.series(key, len(self._blocks), 1)

    def _compute(self, index: int) -> dict[tuple[str, str], Tensor]:
        """Compute in one pass over a block everything wanted that the cache does not hold."""
        shard, block = slice(index, index + 1), self._blocks[index]
        missing = [name for name, series in self._series.items() if series.read(shard) is None]
        sites = list(dict.fromkeys(site for _, site in missing))
        tokens, places = self._padded(block)
        length = tokens.shape[1]
        offsets = np.cumsum([0, *(len(row) for row in places)])
        computed = {
            (kind, site): host_buffer(
                (len(block) if kind == "last" else int(offsets[-1]), self.lm.d_at(site)), self.lm.dtype, self.lm.device
            )
            for kind, site in missing
        }

        def work(rows: slice) -> None:
            read = self.lm.prefix(to_device(tokens[rows], self.lm.device), sites)
            within = range(rows.stop - rows.start)
            every = np.concatenate([places[rows.start + row] + row * length for row in within])
            final = np.array([places[rows.start + row][-1] + row * length for row in within])
            where = {
                "last": (rows, to_device(torch.from_numpy(final), self.lm.device)),
                "tokens": (
                    slice(int(offsets[rows.start]), int(offsets[rows.stop])),
                    to_device(torch.from_numpy(every), self.lm.device),
                ),
            }
            for kind, site in missing:
                target, source = where[kind]
                computed[kind, site][target].copy_(read[site].flatten(0, 1).index_select(0, source), non_blocking=True)

        size = self._batch_size or pick_batch_size(self.lm, length, self._memory)
        fit = max(1, min(size, self._most // length))
        worked = for_batches(slice(0, len(block)), fit, work)
        if worked < fit:
            self._most = worked * length
        if self.lm.device.type == "cuda":
            torch.cuda.synchronize(self.lm.device)
        for name, values in computed.items():
            self._series[name].write(shard, {"values": values})
        return computed

    def _padded(self, block: NDArray[np.int64]) -> tuple[Tensor, list[NDArray[np.int64]]]:
        """The padded tokens ``[texts, position]`` of a block, and the positions of each text's evaluated tokens."""
        lengths = self.rows.lengths[block]
        tokens = torch.full((len(block), int(lengths.max())), int(self.rows.tokens[0]))  # padding: any token
        places = []
        for row, example in enumerate(block):
            start = self.rows.starts[example]
            tokens[row, : lengths[row]] = torch.from_numpy(self.rows.tokens[start : start + lengths[row]])
            places.append(np.flatnonzero(self._evaluated(example)))
        return tokens, places

    def _evaluated(self, example: int | np.int64) -> NDArray[np.bool_]:
        start = self.rows.starts[example]
        return self.rows.evaluated[start : start + self.rows.lengths[example]]


def blocks_of_lengths(lengths: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
    """Sort texts by length into blocks that hold at most ``most`` tokens when padded, or a single longer text."""
    order = np.argsort(lengths, kind="stable")
    blocks: list[NDArray[np.int64]] = []
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > most:
            blocks.append(order[start:end])
            start = end
    return blocks
