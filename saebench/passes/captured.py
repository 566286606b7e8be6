"""What the unmodified language model does on a text, computed once and shared by every SAE, task and run.

A text is cut into shards of sequences. A shard's activations at all sites that are wanted, and what is needed of
its losses, come from one pass, and go into the cache under keys made of what decides their values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.metadata import version
from itertools import accumulate

import torch
from torch import Tensor

from saebench.cache.tensors import Series, TensorCache
from saebench.data.tokens import TokenBatch
from saebench.lm.batching import for_batches, host_buffer
from saebench.lm.head import accumulation_dtype
from saebench.lm.losses import CleanLosses, clean_losses
from saebench.lm.model import LanguageModel
from saebench.passes.positions import Positions
from saebench.progress import Progress

LOSSES = "losses"
# As many as a batch at most holds (`saebench.lm.batching`): larger shards would take memory for nothing.
_SHARD_TOKENS = {"cpu": 2048, "cuda": 16384}
# What a value depends on beside the model and the text. Raise the number when the passes compute something else.
_FORMAT = 1
_LIBRARIES = ("torch", "transformers", "transformer_lens")

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
        key: dict[str, str | int | float] = {
            "kind": kind,
            **more,
            "model": self.lm.fingerprint,
            "dtype": str(self.lm.dtype).removeprefix("torch."),
            "device": self.lm.device.type,
            "tokens": self.batch.content_hash,
            "evaluated": hashlib.sha256(self.batch.evaluated.numpy().tobytes()).hexdigest(),
            "format": _FORMAT,
            **{library: version(library) for library in _LIBRARIES},
        }
        return self._cache.series(key, self.n_sequences, self._rows_per_shard)

    def want(self, *names: str) -> None:
        """Sites (or ``LOSSES``) that shall be captured by whatever pass comes first. Raises HookMismatchError."""
        for name in names:
            if name not in self._wanted:
                if name != LOSSES:
                    self.lm.d_at(name)
                self._wanted[name] = self.series("losses") if name == LOSSES else self.series("activations", site=name)

    def complete(self, description: str, then: Callable[[slice], None]) -> None:
        """Compute what is missing of everything wanted; ``then(shard)`` is called while a shard is at hand."""
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

    def losses(self, rows: slice) -> CleanLosses:
        """What is kept of the clean pass, for the predictions of ``rows``, which lie within one shard."""
        shard = self._shard_of(rows)
        found = self._get(LOSSES, shard)
        counts = self.batch.evaluated[shard.start : rows.stop, 1:].sum(1)
        start = int(counts[: rows.start - shard.start].sum())
        part = slice(start, start + int(counts[rows.start - shard.start :].sum()))
        return CleanLosses(found["hidden"], found["ce"], found["lse"], found.get("mean_unembedding"))[part]

    # ------------------------------------------------------------------ inside

    def _shard_of(self, rows: slice) -> slice:
        return self.shards[rows.start // self._rows_per_shard]

    def _get(self, name: str, shard: slice) -> Shard:
        self.want(name)
        if self._load(shard, [name]):
            self._compute(shard, self._load(shard, list(self._wanted)), lambda n: None)
        return self._here[name]

    def _load(self, shard: slice, names: list[str]) -> list[str]:
        """Bring cached tensors of a shard here; returns the names of those that have to be computed."""
        if self._at != shard:
            self._at, self._here = shard, {}
        for name in names:
            if name not in self._here and (found := self._wanted[name].read(shard)) is not None:
                self._here[name] = found
        return [name for name in names if name not in self._here]

    def _compute(self, shard: slice, names: list[str], advance: Advance) -> None:
        """One pass over the sequences of a shard for ``names``; it ends at the last site unless losses are asked."""
        lm = self.lm
        sites = [name for name in names if name != LOSSES]
        rows = shard.stop - shard.start
        found: dict[str, Shard] = {
            site: {"activations": host_buffer((rows, self.context_length, lm.d_at(site)), lm.dtype, lm.device)}
            for site in sites
        }
        offsets = [0, *accumulate(self.batch.evaluated[shard, 1:].sum(1).tolist())]
        if LOSSES in names:
            found[LOSSES] = _empty_losses(offsets[-1], lm)

        def work(batch: slice) -> None:
            positions = Positions.of(self.batch, batch, lm.device)
            local = slice(batch.start - shard.start, batch.stop - shard.start)
            if LOSSES in names:
                hidden, read = lm.capture(positions.tokens, sites)
                losses = clean_losses(lm.head, positions.at_predictions(hidden), positions.targets)
                _keep(found[LOSSES], slice(offsets[local.start], offsets[local.stop]), losses)
            else:
                read = lm.prefix(positions.tokens, sites)
            for site in sites:
                found[site]["activations"][local].copy_(read[site], non_blocking=True)
            advance(batch.stop - batch.start)

        self.batch_size = for_batches(shard, self.batch_size, work)
        if lm.device.type == "cuda":
            torch.cuda.synchronize(lm.device)
        for name, tensors in found.items():
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
