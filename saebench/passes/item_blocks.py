"""What the unmodified model does on items, in blocks of similar length, shared by every SAE, task and run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from saebench.cache.tensors import Series, TensorCache
from saebench.errors import DataError
from saebench.lm.batching import for_batches, host_buffer, pick_batch_size, to_device
from saebench.lm.head import accumulation_dtype
from saebench.lm.losses import cross_entropies
from saebench.lm.model import LanguageModel
from saebench.passes.examples import blocks_of_lengths
from saebench.passes.items import Item
from saebench.passes.keys import cache_key

CLEAN = "clean"
# Tokens of a block, padding included. Larger blocks pad short texts more and are no faster on a CPU; on a GPU they
# save launches.
_BLOCK_TOKENS = {"cpu": 1024, "cuda": 16384}
_FORMAT = 1  # raise it when the passes compute something else


@dataclass(frozen=True, eq=False)
class Block:
    """Some items, padded on the right, which changes nothing because the model is causal.

    Tensors lie on the CPU. Predictions stand in the order of their rows.
    """

    items: NDArray[np.int64]  # which items, by row
    tokens: Int[Tensor, "rows position"]
    text: Bool[Tensor, "rows position"]  # False at special tokens and padding
    predictions: Int[Tensor, " predictions"]  # which of all items' predictions
    place: Int[Tensor, " predictions"]  # the position that predicts
    targets: Int[Tensor, " predictions"]
    counts: Int[Tensor, " rows"]  # predictions of each row

    def predictions_of(self, rows: Int[Tensor, " some"]) -> tuple[Int[Tensor, " wanted"], Int[Tensor, " wanted"]]:
        """The predictions of ``rows``, row after row, and the flat index of each in a batch of these rows."""
        counts = self.counts[rows]
        first = (self.counts.cumsum(0) - self.counts)[rows]
        row = torch.arange(len(rows)).repeat_interleave(counts)
        within = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        wanted = first[row] + within
        return wanted, row * self.tokens.shape[1] + self.place[wanted]


class ItemBlocks:
    """The activations and cross-entropies of the unmodified model on items.

    The cache returns what was computed once bit for bit. Predictions are numbered across items, one item after the
    other.
    """

    def __init__(
        self, lm: LanguageModel, items: Sequence[Item], cache: TensorCache, memory: int, batch_size: int | None = None
    ) -> None:
        """``memory`` is what the passes may take, in bytes; ``batch_size`` replaces the one derived from it.

        Raises DataError when no item has a token to predict.
        """
        self.lm, self.n, self.content_hash = lm, len(items), content_hash(items)
        self.counts: Int[Tensor, " items"] = torch.tensor([len(item.predict) for item in items], dtype=torch.long)
        if not int(self.counts.sum()):
            raise DataError("There is no token whose probability could be scored; give at least one item with one.")
        self._cache, self._memory, self._batch_size = cache, memory, batch_size
        self._block_tokens = _BLOCK_TOKENS.get(lm.device.type, _BLOCK_TOKENS["cpu"])
        self._most: int | None = None  # tokens of one batch, known once memory has run out
        lengths = np.array([len(item.tokens) for item in items], np.int64)
        special = torch.tensor(lm.tokenizer.all_special_ids, dtype=torch.long)
        starts = (self.counts.cumsum(0) - self.counts).tolist()
        blocks = blocks_of_lengths(lengths, self._block_tokens)
        self._blocks = [_block(items, rows, starts, special) for rows in blocks]
        self._series: dict[str, Series] = {}

    def fit(self, block: Block) -> int:
        """The number of rows of a block's length that fit into one pass."""
        length = block.tokens.shape[1]
        picked = self._batch_size or pick_batch_size(self.lm, length, self._memory)
        return picked if self._most is None else max(1, min(picked, self._most // length))

    def in_batches(self, block: Block, rows: int, work: Callable[[slice], None]) -> None:
        """Call ``work(batch)`` over ``rows`` rows of a block's length, in batches of about equal size that fit."""
        size = math.ceil(rows / math.ceil(rows / self.fit(block)))
        if (worked := for_batches(slice(0, rows), size, work)) < size:
            self._most = worked * block.tokens.shape[1]

    def read(self, *names: str, along: Sequence[str] = ()) -> Iterator[tuple[Block, dict[str, Tensor]]]:
        """Yield each block with the quantities ``names``.

        A quantity is a site, which gives activations ``[rows, position, d]``, or `CLEAN`, which gives the predictions'
        cross-entropies. When the cache lacks one of them, the pass that computes it also keeps what the cache lacks of
        ``along``. The tensors lie on the CPU and are shared: never write into them.
        """
        for name in (*names, *along):
            if name not in self._series:
                self._series[name] = self._cached(name)
        for index, block in enumerate(self._blocks):
            shard = slice(index, index + 1)
            values = self._stored(shard, names)
            if missing := [name for name in names if name not in values]:
                held = self._stored(shard, along)
                missing += [name for name in along if name not in held and name not in missing]
                values |= self._compute(shard, block, missing)
            yield block, values

    def full(self) -> Iterator[tuple[Block, Float[Tensor, " predictions"]]]:
        """Yield every block's cross-entropies under the weights that the model has now; nothing is cached."""
        for block in self._blocks:
            yield block, self._passes(block, [CLEAN])[CLEAN]

    def losses(
        self, block: Block, rows: Int[Tensor, " some"], hidden: Float[Tensor, "some position d_model"]
    ) -> tuple[Int[Tensor, " wanted"], Float[Tensor, " wanted"]]:
        """The numbers of the predictions of ``rows`` in the block, and their cross-entropies in nats, on the CPU."""
        wanted, at = block.predictions_of(rows)
        chosen = hidden.flatten(0, 1).index_select(0, to_device(at, hidden.device))
        return wanted, cross_entropies(self.lm.head, chosen, to_device(block.targets[wanted], hidden.device)).cpu()

    # ------------------------------------------------------------------ inside

    def _stored(self, shard: slice, names: Sequence[str]) -> dict[str, Tensor]:
        stored = {name: self._series[name].read(shard) for name in names}
        return {name: tensors["values"] for name, tensors in stored.items() if tensors is not None}

    def _compute(self, shard: slice, block: Block, names: list[str]) -> dict[str, Tensor]:
        computed = self._passes(block, names)
        for name, values in computed.items():
            self._series[name].write(shard, {"values": values})
        return computed

    def _passes(self, block: Block, names: list[str]) -> dict[str, Tensor]:
        """Compute ``names`` in one pass over a block, which ends at the last site unless `CLEAN` is among them."""
        lm, (rows, length) = self.lm, block.tokens.shape
        sites = [name for name in names if name != CLEAN]
        computed = {site: host_buffer((rows, length, lm.d_at(site)), lm.dtype, lm.device) for site in sites}
        ce = torch.empty(len(block.predictions), dtype=accumulation_dtype(lm.dtype))
        if CLEAN in names:
            computed[CLEAN] = ce

        def work(batch: slice) -> None:
            tokens = to_device(block.tokens[batch], lm.device)
            if CLEAN in names:
                hidden, read = lm.capture(tokens, sites)
                wanted, values = self.losses(block, torch.arange(batch.start, batch.stop), hidden)
                ce[wanted] = values
            else:
                read = lm.prefix(tokens, sites)
            for site in sites:
                computed[site][batch].copy_(read[site], non_blocking=True)

        self.in_batches(block, rows, work)
        if lm.device.type == "cuda":
            torch.cuda.synchronize(lm.device)
        return computed

    def _cached(self, name: str) -> Series:
        kind, site = ("items, clean", "") if name == CLEAN else ("items, activations", name)
        key = cache_key(self.lm, kind, _FORMAT, site=site, items=self.content_hash, block=self._block_tokens)
        return self._cache.series(key, len(self._blocks), 1)


def content_hash(items: Sequence[Item]) -> str:
    """The sha256 over the tokens and predicted places of all items."""
    digest = hashlib.sha256()
    for item in items:
        parts = (len(item.tokens), len(item.predict), *item.tokens, *item.predict)
        digest.update(np.array(parts, "<i8").tobytes())
    return digest.hexdigest()


def _block(items: Sequence[Item], rows: NDArray[np.int64], starts: list[int], special: Tensor) -> Block:
    chosen = [items[row] for row in rows]
    length = max(len(item.tokens) for item in chosen)
    tokens = torch.full((len(rows), length), chosen[0].tokens[0])  # padding: any token
    text = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, item in enumerate(chosen):
        tokens[row, : len(item.tokens)] = torch.tensor(item.tokens)
        text[row, : len(item.tokens)] = True
    counts = torch.tensor([len(item.predict) for item in chosen])
    predictions = [torch.arange(starts[row], starts[row] + int(n)) for row, n in zip(rows, counts, strict=True)]
    place = torch.tensor([place - 1 for item in chosen for place in item.predict], dtype=torch.long)
    of_row = torch.arange(len(rows)).repeat_interleave(counts)
    return Block(
        rows,
        tokens,
        text & ~torch.isin(tokens, special),
        torch.cat(predictions),
        place,
        tokens[of_row, place + 1],
        counts,
    )
