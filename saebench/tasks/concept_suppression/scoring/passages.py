"""The mean final hidden states of texts that are read one by one, when the model is changed at one hook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from saebench.data.tokens import TokenBatch
from saebench.interventions.base import Intervention, on_texts
from saebench.interventions.edit import LatentEdit
from saebench.interventions.latents import Reading
from saebench.lm.batching import for_batches, to_device
from saebench.passes.captured import CapturedText
from saebench.passes.context import TaskContext
from saebench.passes.examples import TokenRows, tokenize_examples

_STEP = 16  # texts are padded to multiples of this, so that few lengths occur and little is padding

# Turns mean final hidden states ``[texts, d_model]`` into ``[texts, columns]``.
Readout = Callable[[Tensor], NDArray[np.float64]]
# An intervention, and the texts ``[texts]`` on which it is wanted.
Wanted = tuple[Intervention, NDArray[np.bool_]]


@dataclass(frozen=True)
class _Shard:
    """Texts of one padded length, on the device."""

    number: NDArray[np.int64]  # the place of each text among all texts
    tokens: Int[Tensor, "texts position"]
    text: Bool[Tensor, "texts position"]  # False at special tokens and padding
    x: Float[Tensor, "texts position d"]
    source: Float[Tensor, "texts position d_in"] | None
    restart: Float[Tensor, "texts position d_model"] | None
    captured: CapturedText


class Passages:
    """Some texts, and their activations at one site, which are captured once for all SAEs there."""

    def __init__(
        self, texts: Sequence[str], context: TaskContext, context_length: int, *, site: str, reads: str
    ) -> None:
        """Tokenize the texts. ``site`` is the hook that is changed, ``reads`` the one that interventions look at.

        Raises HookMismatchError when the language model has no such hook.
        """
        self.lm, self.site, self.reads, self.n = context.lm, site, reads, len(texts)
        self._progress = context.progress
        self._restart = self.lm.restart_site(site)
        rows = tokenize_examples(texts, self.lm.tokenizer, context_length)
        widths = np.minimum(-(-rows.lengths // _STEP) * _STEP, context_length)
        self._captured: list[tuple[NDArray[np.int64], CapturedText]] = []
        for width in np.unique(widths):
            numbers = np.flatnonzero(widths == width)
            captured = context.capture(_padded(rows, numbers, int(width)))
            captured.want(site, reads, self._restart)
            self._captured.append((numbers, captured))

    @cached_property
    def clean(self) -> Float[Tensor, "texts d_model"]:
        """The mean final hidden state of each text over its tokens that are not special, float32, on the CPU."""
        hidden = torch.empty(self.n, self.lm.d_model)
        with self._progress.task("final hidden states of concepts", self.n, "texts") as ticker:
            for numbers, captured in self._captured:
                for rows in captured.shards:
                    shard = self._shard(numbers, captured, rows)
                    every = torch.arange(len(shard.number))
                    hidden[torch.from_numpy(shard.number)] = self._hidden(shard, every, shard.x)
                    ticker.advance(len(shard.number))
        return hidden

    @torch.no_grad()
    def under(self, changes: Sequence[Wanted], readout: Readout, description: str) -> NDArray[np.float64]:
        """Return the readout of each text under each intervention.

        A text whose activations stay the same, bit for bit, keeps its clean readout and costs no pass. Edits of the
        same latents share the encoding.

        Args:
            changes: The interventions, and the texts on which each is wanted.
            readout: Is given mean final hidden states.
            description: What is shown as progress.

        Returns:
            Readouts ``[changes, texts, columns]``, NaN where they are not wanted.
        """
        clean = readout(self.clean)
        out = np.full((len(changes), *clean.shape), np.nan)
        for number, (_, wanted) in enumerate(changes):
            out[number, wanted] = clean[wanted]
        with self._progress.task(description, self.n, "texts") as ticker:
            for numbers, captured in self._captured:
                for rows in captured.shards:
                    self._under(self._shard(numbers, captured, rows), changes, readout, out)
                    ticker.advance(rows.stop - rows.start)
        return out

    # ------------------------------------------------------------------ inside

    def _under(self, shard: _Shard, changes: Sequence[Wanted], readout: Readout, out: NDArray[np.float64]) -> None:
        """Write the readouts of the texts of a shard into ``out``; rows of several interventions share a pass."""
        readings: dict[tuple[int, bool, bytes], Reading] = {}
        waiting: list[tuple[int, Tensor, Tensor]] = []  # change, rows and their new activations
        for number, (intervention, wanted) in enumerate(changes):
            rows = torch.from_numpy(np.flatnonzero(wanted[shard.number]))
            if not len(rows):
                continue
            x = shard.x[to_device(rows, self.lm.device)]
            new = self._applied(intervention, shard, rows, x, readings)
            changed = (new != x).flatten(1).any(1)
            rows, new = rows[changed.cpu()], new[changed]
            if len(rows):
                waiting.append((number, rows, new))
            if sum(len(rows) for _, rows, _ in waiting) >= shard.captured.batch_size:
                self._read(shard, waiting, readout, out)
                waiting = []
        self._read(shard, waiting, readout, out)

    def _applied(
        self,
        intervention: Intervention,
        shard: _Shard,
        rows: Tensor,
        x: Tensor,
        readings: dict[tuple[int, bool, bytes], Reading],
    ) -> Tensor:
        """Return ``x``, the activations of ``rows``, as the intervention changes them at tokens of text."""
        index = to_device(rows, self.lm.device)
        text = shard.text[index]
        source = None if shard.source is None else shard.source[index]
        if not isinstance(intervention, LatentEdit):
            new = on_texts(intervention, x, text, source)
        else:
            key = (id(intervention.latents), intervention.looks, rows.numpy().tobytes())
            if key not in readings:
                readings[key] = intervention.read(x, text, source)
            intervention.reset()
            new = intervention.rewrite(readings[key])
        return torch.where(text[..., None], new.to(x.dtype), x)

    def _read(
        self, shard: _Shard, waiting: list[tuple[int, Tensor, Tensor]], readout: Readout, out: NDArray[np.float64]
    ) -> None:
        """Run the rest of the model on the changed activations of several interventions together."""
        if not waiting:
            return
        rows = torch.cat([rows for _, rows, _ in waiting])
        number = np.repeat([number for number, _, _ in waiting], [len(rows) for _, rows, _ in waiting])
        out[number, shard.number[rows.numpy()]] = readout(
            self._hidden(shard, rows, torch.cat([new for _, _, new in waiting]))
        )

    def _hidden(self, shard: _Shard, rows: Tensor, x: Tensor) -> Float[Tensor, "rows d_model"]:
        """Return the mean final hidden states of ``rows``, with ``x`` as the activations at the site, on the CPU."""
        means: list[Tensor] = []

        def run(batch: slice) -> None:
            index = to_device(rows[batch], self.lm.device)
            restart = None if shard.restart is None else shard.restart[index]
            hidden = self.lm.suffix(shard.tokens[index], self.site, x[batch], restart).float()
            text = shard.text[index][..., None]
            means.append((hidden * text).sum(1) / text.sum(1))

        shard.captured.batch_size = for_batches(slice(0, len(rows)), shard.captured.batch_size, run)
        return torch.cat(means).cpu()

    def _shard(self, numbers: NDArray[np.int64], captured: CapturedText, rows: slice) -> _Shard:
        def at(site: str) -> Tensor:
            return to_device(captured.activations(site, rows), self.lm.device)

        return _Shard(
            numbers[rows],
            to_device(captured.batch.tokens[rows], self.lm.device),
            to_device(captured.batch.evaluated[rows], self.lm.device),
            at(self.site),
            at(self.reads) if self.reads != self.site else None,
            at(self._restart) if self._restart != self.site else None,
            captured,
        )


def _padded(rows: TokenRows, numbers: NDArray[np.int64], width: int) -> TokenBatch:
    """Return the texts ``numbers``, padded on the right, where no earlier token attends to the padding."""
    tokens = torch.full((len(numbers), width), int(rows.tokens[0]), dtype=torch.int64)
    evaluated = torch.zeros(len(numbers), width, dtype=torch.bool)
    for row, number in enumerate(numbers):
        length = rows.lengths[number]
        own = slice(rows.starts[number], rows.starts[number] + length)
        tokens[row, :length] = torch.from_numpy(rows.tokens[own].astype(np.int64))
        evaluated[row, :length] = torch.from_numpy(rows.evaluated[own])
    return TokenBatch(tokens, evaluated, n_documents=len(numbers))
