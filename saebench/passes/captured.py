"""What the unmodified language model does on a text, computed once and shared by every SAE, task and run.

A text is cut into shards of sequences. One pass over a shard gives its activations at every site that is wanted, and
what is kept of its losses. Both go into the cache under keys that say everything their values depend on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from saebench.cache.tensors import Series, TensorCache
from saebench.data.tokens import TokenBatch
from saebench.lm.batching import for_batches, host_buffer, to_device
from saebench.lm.head import accumulation_dtype
from saebench.lm.losses import CleanLosses, clean_losses
from saebench.lm.model import LanguageModel
from saebench.passes.keys import cache_key
from saebench.passes.positions import Positions
from saebench.progress import Progress

LOSSES = "losses"
# A batch holds no more tokens than this (`saebench.lm.batching`), so larger shards would only take more memory.
_SHARD_TOKENS = {"cpu": 2048, "cuda": 16384}
_FORMAT = 1  # raise it when the passes compute something else

Shard = dict[str, Tensor]
Advance = Callable[[int], None]


class CapturedText:
    """Clean activations and losses of one model over one batch of sequences.

    Tensors lie on the CPU in the model's dtype and are shared: never write into them.
    """

    def __init__(
        self, lm: LanguageModel, batch: TokenBatch, cache: TensorCache, batch_size: int, progress: Progress
    ) -> None:
        self.lm, self.batch, self.batch_size = lm, batch, batch_size
        self.n_sequences, self.context_length = batch.tokens.shape
        self._cache, self._progress = cache, progress
        fit = max(1, _SHARD_TOKENS.get(lm.device.type, _SHARD_TOKENS["cpu"]) // self.context_length)
        self._rows_per_shard = 1 << (fit.bit_length() - 1)
        self._wanted: dict[str, Series] = {}
        self._here: dict[str, Shard] = {}  # tensors of the shard that is being worked on
        self._at: slice | None = None
        self.shards = self.series("shards").shards

    def series(self, kind: str, **more: str) -> Series:
        """The cached quantity ``kind`` of this model and text, one entry per sequence."""
        evaluated = hashlib.sha256(self.batch.evaluated.numpy().tobytes()).hexdigest()
        key = cache_key(self.lm, kind, _FORMAT, tokens=self.batch.content_hash, evaluated=evaluated, **more)
        return self._cache.series(key, self.n_sequences, self._rows_per_shard)

    def want(self, *names: str) -> None:
        """Have the next pass capture these sites (or ``LOSSES``) as well. Raises HookMismatchError."""
        for name in names:
            if name not in self._wanted:
                if name != LOSSES:
                    self.lm.d_at(name)
                self._wanted[name] = self.series("losses") if name == LOSSES else self.series("activations", site=name)

    def complete(self, description: str, then: Callable[[slice], None]) -> None:
        """Compute what the cache lacks of everything wanted, and call ``then(shard)`` while a shard is in memory."""
        with self._progress.task(description, self.n_sequences, "sequences") as ticker:
            for shard in self.shards:
                missing = self._load(shard, list(self._wanted))
                if missing:
                    self._compute(shard, missing, ticker.advance)
                else:
                    ticker.advance(shard.stop - shard.start)
                then(shard)

    def activations(self, site: str, rows: slice) -> Tensor:
        """``[rows, position, d]`` at ``site``, in the model's dtype. ``rows`` lie within one shard."""
        shard = self._shard_of(rows)
        return self._get(site, shard)["activations"][rows.start - shard.start : rows.stop - shard.start]

    def joined(self, sites: Sequence[str], rows: slice) -> Tensor:
        """``[rows, position, d]`` on the model's device: the activations at ``sites``, one after the other.

        The last dimension holds those of the first site, then those of the second, and so on. ``rows`` lie within one
        shard.
        """
        parts = [to_device(self.activations(site, rows), self.lm.device) for site in sites]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def tokens(self, *sites: str) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield the evaluated tokens of the text, shard by shard: the sequence of each, and activations at ``sites``.

        The first tensor, ``[tokens]`` on the CPU, holds the number of each token's sequence. The others are
        ``[tokens, d]``, one for each site, in float32 on the model's device. Tokens come in the order of the text, no
        sequence lies in two shards, and special tokens are left out, so that two tokens in a row need not be
        neighbours; ``batch.evaluated.nonzero()`` gives the positions in the same order. Raises HookMismatchError.
        """
        self.want(*sites)
        for shard in self.shards:
            positions = Positions.of(self.batch, shard, self.lm.device)
            activations = (to_device(self.activations(site, shard), self.lm.device) for site in sites)
            yield positions.sequence, [positions.at_evaluated(x).float() for x in activations]

    def losses(self, rows: slice) -> CleanLosses:
        """What is kept of the clean losses of the predictions of ``rows``, which lie within one shard."""
        shard = self._shard_of(rows)
        kept = self._get(LOSSES, shard)
        counts = self.batch.evaluated[shard.start : rows.stop, 1:].sum(1)
        start = int(counts[: rows.start - shard.start].sum())
        part = slice(start, start + int(counts[rows.start - shard.start :].sum()))
        return CleanLosses(kept["hidden"], kept["ce"], kept["lse"], kept.get("mean_unembedding"))[part]

    # ------------------------------------------------------------------ inside

    def _shard_of(self, rows: slice) -> slice:
        return self.shards[rows.start // self._rows_per_shard]

    def _get(self, name: str, shard: slice) -> Shard:
        self.want(name)
        if self._load(shard, [name]):
            self._compute(shard, self._load(shard, list(self._wanted)), lambda n: None)
        return self._here[name]

    def _load(self, shard: slice, names: list[str]) -> list[str]:
        """Read a shard's tensors from the cache, and return the names of those that it lacks."""
        if self._at != shard:
            self._at, self._here = shard, {}
        for name in names:
            if name not in self._here and (stored := self._wanted[name].read(shard)) is not None:
                self._here[name] = stored
        return [name for name in names if name not in self._here]

    def _compute(self, shard: slice, names: list[str], advance: Advance) -> None:
        """Compute ``names`` in one pass over a shard, which ends at the last site unless losses are among them."""
        lm = self.lm
        sites = [name for name in names if name != LOSSES]
        rows = shard.stop - shard.start
        computed: dict[str, Shard] = {
            site: {"activations": host_buffer((rows, self.context_length, lm.d_at(site)), lm.dtype, lm.device)}
            for site in sites
        }
        offsets = [0, *accumulate(self.batch.evaluated[shard, 1:].sum(1).tolist())]
        if LOSSES in names:
            computed[LOSSES] = _empty_losses(offsets[-1], lm)

        def work(batch: slice) -> None:
            positions = Positions.of(self.batch, batch, lm.device)
            local = slice(batch.start - shard.start, batch.stop - shard.start)
            if LOSSES in names:
                hidden, read = lm.capture(positions.tokens, sites)
                losses = clean_losses(lm.head, positions.at_predictions(hidden), positions.targets)
                _keep(computed[LOSSES], slice(offsets[local.start], offsets[local.stop]), losses)
            else:
                read = lm.prefix(positions.tokens, sites)
            for site in sites:
                computed[site]["activations"][local].copy_(read[site], non_blocking=True)
            advance(batch.stop - batch.start)

        self.batch_size = for_batches(shard, self.batch_size, work)
        if lm.device.type == "cuda":
            torch.cuda.synchronize(lm.device)
        for name, tensors in computed.items():
            self._wanted[name].write(shard, tensors)
            self._here[name] = tensors


def _empty_losses(n: int, lm: LanguageModel) -> Shard:
    reduced = accumulation_dtype(lm.dtype)
    shapes = {"hidden": ((n, lm.d_model), lm.dtype), "ce": ((n,), reduced), "lse": ((n,), reduced)}
    if lm.head.linear:
        shapes["mean_unembedding"] = ((n, lm.d_model), reduced)
    return {name: host_buffer(shape, dtype, lm.device) for name, (shape, dtype) in shapes.items()}


def _keep(target: Shard, rows: slice, losses: CleanLosses) -> None:
    for name, tensor in target.items():
        tensor[rows].copy_(getattr(losses, name), non_blocking=True)
