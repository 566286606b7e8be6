"""The clean pass of a language model over a text, and its ablations: computed once, shared by every SAE.

Conventions (definitions.md 0.3): *evaluated* tokens are those that are not special; they alone are spliced, at
every other position the original activation stays. A *prediction* is a position whose next token is evaluated;
cross-entropy and KL are over predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.data.tokens import TokenBatch
from saebench.lm.batching import for_batches
from saebench.lm.head import accumulation_dtype
from saebench.lm.losses import CleanLosses, clean_losses, spliced_losses
from saebench.lm.model import LanguageModel
from saebench.progress import Progress
from saebench.stats.reconstruction import Centre


@dataclass(frozen=True)
class Losses:
    """Per-sequence sums over predictions, in nats (float64)."""

    ce: Float[Tensor, " sequences"]
    kl: Float[Tensor, " sequences"]


Replacement = Callable[[slice], Tensor]


class CleanPass:
    """Activations and losses of the unmodified model at one site, over one batch of sequences.

    Kept on the CPU in the model's dtype; ``batch_size`` sequences at a time go to the device.
    """

    def __init__(self, lm: LanguageModel, batch: TokenBatch, site: str, batch_size: int, progress: Progress) -> None:
        self.lm, self.site, self.batch_size = lm, site, batch_size
        self.tokens: Int[Tensor, "sequences position"] = batch.tokens
        self.evaluated: Bool[Tensor, "sequences position"] = batch.evaluated
        self.predicts: Bool[Tensor, "sequences position"] = self.evaluated[:, 1:]
        self.n_sequences, self.context_length = batch.tokens.shape
        self.predictions: Float[Tensor, " sequences"] = self.predicts.sum(1).double()
        self._progress = progress
        self._restart_site = lm.restart_site(site)
        self.activations = torch.empty(*batch.tokens.shape, lm.d_at(site), dtype=lm.dtype)
        inside = self._restart_site != site
        self._restart = torch.empty(*batch.tokens.shape, lm.d_model, dtype=lm.dtype) if inside else self.activations
        # Predictions of all sequences lie one after another; those of sequence s are [offsets[s], offsets[s + 1]).
        self._offsets = [0, *self.predicts.sum(1).cumsum(0).tolist()]
        self._clean = _empty_losses(self._offsets[-1], lm)
        self.ce = torch.zeros(self.n_sequences, dtype=torch.float64)
        self._run()
        self.centre = Centre.of(self.activations[self.evaluated])

    @cached_property
    def zero(self) -> Losses:
        """Losses with zeros at evaluated tokens."""
        return self.spliced(lambda rows: torch.zeros_like(self.activations[rows]), "zero ablation")

    @cached_property
    def mean(self) -> Losses:
        """Losses with the mean activation at evaluated tokens."""
        mean = self.centre.mean.to(self.lm.dtype)
        return self.spliced(lambda rows: mean.expand_as(self.activations[rows]), "mean ablation")

    def spliced(self, replacement: Replacement, description: str) -> Losses:
        """Losses with ``replacement(rows)[sequences, position, d]`` in place at evaluated tokens."""
        ce, kl = torch.zeros_like(self.ce), torch.zeros_like(self.ce)

        def work(rows: slice) -> None:
            ce[rows], kl[rows] = self.splice_batch(rows, replacement(rows))
            ticker.advance(rows.stop - rows.start)

        with self._progress.task(description, self.n_sequences, "sequences") as ticker:
            self.batch_size = for_batches(self.n_sequences, self.batch_size, work)
        return Losses(ce, kl)

    def splice_batch(self, rows: slice, replacement: Float[Tensor, "batch position d"]) -> tuple[Tensor, Tensor]:
        """Per-sequence sums of cross-entropy and KL for the sequences ``rows``."""
        lm, device = self.lm, self.lm.device
        where = self.evaluated[rows].to(device)
        original = self.activations[rows].to(device)
        activation = torch.where(where[..., None], replacement.to(device, lm.dtype), original)
        restart = None if self._restart is self.activations else self._restart[rows].to(device)
        hidden = lm.suffix(self.tokens[rows].to(device), self.site, activation, restart)
        return self._sums(rows, hidden)

    def _run(self) -> None:
        lm = self.lm
        sites = list({self.site, self._restart_site})

        def work(rows: slice) -> None:
            tokens = self.tokens[rows].to(lm.device)
            found = lm.prefix(tokens, sites)
            hidden = lm.suffix(tokens, self.site, found[self.site], found[self._restart_site])
            hidden, targets = self._at_predictions(rows, hidden)
            losses = clean_losses(lm.head, hidden, targets)
            _store(self._clean, self._predictions_of(rows), losses)
            self.ce[rows] = self._per_sequence(rows, losses.ce[None])[0]
            self.activations[rows] = found[self.site].cpu()
            if self._restart is not self.activations:
                self._restart[rows] = found[self._restart_site].cpu()
            ticker.advance(rows.stop - rows.start)

        with self._progress.task(f"clean pass to {self.site}", self.n_sequences, "sequences") as ticker:
            self.batch_size = for_batches(self.n_sequences, self.batch_size, work)

    def _sums(self, rows: slice, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden, targets = self._at_predictions(rows, hidden)
        clean = _to_device(self._clean[self._predictions_of(rows)], self.lm.device)
        ce, kl = self._per_sequence(rows, torch.stack(spliced_losses(self.lm.head, hidden, targets, clean)))
        return ce, kl

    def _predictions_of(self, rows: slice) -> slice:
        return slice(self._offsets[rows.start], self._offsets[rows.stop])

    def _at_predictions(self, rows: slice, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states that predict an evaluated token, and those tokens."""
        chosen = self.predicts[rows]
        targets = self.tokens[rows, 1:][chosen]
        return hidden[:, :-1][chosen.to(hidden.device)], targets.to(hidden.device)

    def _per_sequence(
        self, rows: slice, values: Float[Tensor, "kinds predictions"]
    ) -> Float[Tensor, "kinds sequences"]:
        sequence = self.predicts[rows].nonzero()[:, 0]
        sums = torch.zeros(len(values), rows.stop - rows.start, dtype=torch.float64)
        return sums.index_add_(1, sequence, values.double().cpu())


def _empty_losses(n: int, lm: LanguageModel) -> CleanLosses:
    dtype = accumulation_dtype(lm.dtype)
    return CleanLosses(
        torch.empty(n, lm.d_model, dtype=lm.dtype),
        torch.empty(n, dtype=dtype),
        torch.empty(n, dtype=dtype),
        torch.empty(n, lm.d_model, dtype=dtype) if lm.head.linear else None,
    )


def _store(target: CleanLosses, rows: slice, losses: CleanLosses) -> None:
    target.hidden[rows] = losses.hidden.cpu()
    target.ce[rows] = losses.ce.cpu()
    target.lse[rows] = losses.lse.cpu()
    if target.mean_unembedding is not None and losses.mean_unembedding is not None:
        target.mean_unembedding[rows] = losses.mean_unembedding.cpu()


def _to_device(losses: CleanLosses, device: torch.device) -> CleanLosses:
    mean = losses.mean_unembedding
    return CleanLosses(
        losses.hidden.to(device),
        losses.ce.to(device),
        losses.lse.to(device),
        None if mean is None else mean.to(device),
    )
