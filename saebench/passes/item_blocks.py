"""What the unmodified model does on items, in blocks of similar length, shared by every SAE, task and run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

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

CLEAN = "clean"
# Padding included. On a CPU larger batches make nothing faster, and pad short texts more; a GPU wants few launches.
_BLOCK_TOKENS = {"cpu": 1024, "cuda": 16384}
# What a value depends on beside the model and the items. Raise the number when the passes compute something else.
_FORMAT = 1
_LIBRARIES = ("torch", "transformers", "transformer_lens")


@dataclass(frozen=True, eq=False)
class Block:
    """Some items, padded on the right: the model is causal, so padding changes nothing before it.

    Tensors lie on the CPU. Predictions are in the order of their rows.
    """

    items: NDArray[np.int64]  # which items, by row
    tokens: Int[Tensor, "rows position"]
    text: Bool[Tensor, "rows position"]  # False at special tokens and padding
    predictions: Int[Tensor, " predictions"]  # which of all items' predictions
    place: Int[Tensor, " predictions"]  # the position that predicts
    targets: Int[Tensor, " predictions"]
    counts: Int[Tensor, " rows"]  # predictions of each row

    def of_rows(self, rows: Int[Tensor, " some"]) -> tuple[Int[Tensor, " wanted"], Int[Tensor, " wanted"]]:
        """Predictions of ``rows`` one after the other, and the flat index of each in a batch of those rows."""
        counts = self.counts[rows]
        first = (self.counts.cumsum(0) - self.counts)[rows]
        row = torch.arange(len(rows)).repeat_interleave(counts)
        within = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        wanted = first[row] + within
        return wanted, row * self.tokens.shape[1] + self.place[wanted]


class ItemBlocks:
    """Clean activations and cross-entropies of one model over items.

    What was computed once comes back bit for bit. Predictions are numbered through, item after item.
    """

    def __init__(
        self, lm: LanguageModel, items: Sequence[Item], cache: TensorCache, memory: int, batch_size: int | None = None
    ) -> None:
        """``memory`` is for the passes, in bytes; ``batch_size`` overrides what would be picked from it.

        Raises DataError when there is nothing to predict.
        """
        self.lm, self.n, self.content_hash = lm, len(items), content_hash(items)
        self.counts: Int[Tensor, " items"] = torch.tensor([len(item.predict) for item in items], dtype=torch.long)
        if not int(self.counts.sum()):
            raise DataError("There is no token whose probability could be scored; give at least one item with one.")
        self._cache, self._memory, self._batch_size = cache, memory, batch_size
        self._block_tokens = _BLOCK_TOKENS.get(lm.device.type, _BLOCK_TOKENS["cpu"])
        self._most: int | None = None  # tokens of a pass, once memory has run out
        lengths = np.array([len(item.tokens) for item in items], np.int64)
        special = torch.tensor(lm.tokenizer.all_special_ids, dtype=torch.long)
        starts = (self.counts.cumsum(0) - self.counts).tolist()
        blocks = blocks_of_lengths(lengths, self._block_tokens)
        self._blocks = [_block(items, rows, starts, special) for rows in blocks]
        self._series: dict[str, Series] = {}

    def fit(self, block: Block) -> int:
        """How many rows of a block's length fit into one pass."""
        length = block.tokens.shape[1]
        picked = self._batch_size or pick_batch_size(self.lm, length, self._memory)
        return picked if self._most is None else max(1, min(picked, self._most // length))

    def in_batches(self, block: Block, rows: int, work: Callable[[slice], None]) -> None:
        """Call ``work(batch)`` over ``rows`` rows of a block's length, in batches of about equal size that fit."""
        size = math.ceil(rows / math.ceil(rows / self.fit(block)))
        if (worked := for_batches(slice(0, rows), size, work)) < size:
            self._most = worked * block.tokens.shape[1]

    def read(self, *names: str, along: Sequence[str] = ()) -> Iterator[tuple[Block, dict[str, Tensor]]]:
        """Each block with what is named: ``[rows, position, d]`` activations at a site, or `CLEAN` cross-entropies.

        What the cache does not hold comes from one pass, which then keeps what it lacks of ``along``, too. Shared
        tensors on the CPU: never write into them.
        """
        for name in (*names, *along):
            if name not in self._series:
                self._series[name] = self._cached(name)
        for index, block in enumerate(self._blocks):
            shard = slice(index, index + 1)
            found = self._stored(shard, names)
            if missing := [name for name in names if name not in found]:
                held = self._stored(shard, along)
                missing += [name for name in along if name not in held and name not in missing]
                found |= self._compute(shard, block, missing)
            yield block, found

    def full(self) -> Iterator[tuple[Block, Float[Tensor, " predictions"]]]:
        """Cross-entropies of every block, with the weights that the model has now; nothing is kept."""
        for block in self._blocks:
            yield block, self._passes(block, [CLEAN])[CLEAN]

    def losses(
        self, block: Block, rows: Int[Tensor, " some"], hidden: Float[Tensor, "some position d_model"]
    ) -> tuple[Int[Tensor, " wanted"], Float[Tensor, " wanted"]]:
        """Which of the block's predictions belong to ``rows``, and their cross-entropies, in nats, on the CPU."""
        wanted, at = block.of_rows(rows)
        chosen = hidden.flatten(0, 1).index_select(0, to_device(at, hidden.device))
        return wanted, cross_entropies(self.lm.head, chosen, to_device(block.targets[wanted], hidden.device)).cpu()

    # ------------------------------------------------------------------ inside

    def _stored(self, shard: slice, names: Sequence[str]) -> dict[str, Tensor]:
        stored = {name: self._series[name].read(shard) for name in names}
        return {name: tensors["values"] for name, tensors in stored.items() if tensors is not None}

    def _compute(self, shard: slice, block: Block, names: list[str]) -> dict[str, Tensor]:
        found = self._passes(block, names)
        for name, values in found.items():
            self._series[name].write(shard, {"values": values})
        return found

    def _passes(self, block: Block, names: list[str]) -> dict[str, Tensor]:
        """One pass over a block for everything named; it ends at the last site unless losses are asked."""
        lm, (rows, length) = self.lm, block.tokens.shape
        sites = [name for name in names if name != CLEAN]
        found = {site: host_buffer((rows, length, lm.d_at(site)), lm.dtype, lm.device) for site in sites}
        ce = torch.empty(len(block.predictions), dtype=accumulation_dtype(lm.dtype))
        if CLEAN in names:
            found[CLEAN] = ce

        def work(batch: slice) -> None:
            tokens = to_device(block.tokens[batch], lm.device)
            if CLEAN in names:
                hidden, read = lm.capture(tokens, sites)
                wanted, values = self.losses(block, torch.arange(batch.start, batch.stop), hidden)
                ce[wanted] = values
            else:
                read = lm.prefix(tokens, sites)
            for site in sites:
                found[site][batch].copy_(read[site], non_blocking=True)

        self.in_batches(block, rows, work)
        if lm.device.type == "cuda":
            torch.cuda.synchronize(lm.device)
        return found

    def _cached(self, name: str) -> Series:
        key: dict[str, str | int | float] = {
            "kind": "items, clean" if name == CLEAN else "items, activations",
            "site": "" if name == CLEAN else name,
            "model": self.lm.fingerprint,
            "dtype": str(self.lm.dtype).removeprefix("torch."),
            "device": self.lm.device.type,
            "items": self.content_hash,
            "block": self._block_tokens,
            "format": _FORMAT,
            **{library: version(library) for library in _LIBRARIES},
        }
        return self._cache.series(key, len(self._blocks), 1)


def content_hash(items: Sequence[Item]) -> str:
    """sha256 over tokens and places of all items."""
    digest = hashlib.sha256()
    for item in items:
        parts = (len(item.tokens), len(item.predict), *item.tokens, *item.predict)
        digest.update(np.array(parts, "<i8").tobytes())
    return digest.hexdigest()


def _block(items: Sequence[Item], rows: NDArray[np.int64], starts: list[int], special: Tensor) -> Block:
    chosen = [items[row] for row in rows]
    length = max(len(item.tokens) for item in chosen)
    tokens = torch.full((len(rows), length), chosen[0].tokens[0])  # any token will do
    text = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, item in enumerate(chosen):
        tokens[row, : len(item.tokens)] = torch.tensor(item.tokens)
        text[row, : len(item.tokens)] = True
    counts = torch.tensor([len(item.predict) for item in chosen])
    predictions = [torch.arange(starts[each], starts[each] + int(n)) for each, n in zip(rows, counts, strict=True)]
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
