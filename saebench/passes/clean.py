"""The clean pass of a language model at one site or several, its ablations, and splices into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saebench.lm.batching import for_batches, to_device
from saebench.lm.losses import CleanLosses, spliced_losses
from saebench.passes.captured import LOSSES, CapturedText
from saebench.passes.positions import Positions
from saebench.progress import Progress, Ticker
from saebench.sae.hook import format_sites
from saebench.stats.reconstruction import Centre


@dataclass(frozen=True)
class Losses:
    """Per-sequence sums over predictions, in nats (float64)."""

    ce: Float[Tensor, " sequences"]
    kl: Float[Tensor, " sequences"]


@dataclass(frozen=True)
class CleanBatch:
    """Some sequences on the device: where their tokens lie, and their activations at the site.

    The activations at several sites lie one after the other in the last dimension. They are shared: never write into
    them.
    """

    positions: Positions
    activations: Float[Tensor, "batch position d"]


# Gives the activations that replace those of a batch at its evaluated tokens, ``[tokens, d]``.
Replacement = Callable[[CleanBatch], Tensor]


class CleanPass:
    """The losses of the unmodified model on some sequences, and its losses when it is changed at some site.

    Where there are several sites, their activations are concatenated along the last dimension, in the order of
    ``sites``. A change replaces the activations at all of them in one pass. It is computed from the activations of the
    unmodified model: what one site is given does not depend on what another site was given before it. Ablations change
    all sites likewise.

    Attributes:
        sites: The sites.
        site: All of them in one text, which is the name of the site if there is one.
    """

    def __init__(self, captured: CapturedText, sites: str | Sequence[str], progress: Progress) -> None:
        self.sites: tuple[str, ...] = (sites,) if isinstance(sites, str) else tuple(sites)
        self.captured, self.site, self.lm = captured, format_sites(self.sites), captured.lm
        self.evaluated: Bool[Tensor, "sequences position"] = captured.batch.evaluated
        self.n_sequences = captured.n_sequences
        self.predictions: Float[Tensor, " sequences"] = self.evaluated[:, 1:].sum(1).double()
        self.ce: Float[Tensor, " sequences"] = torch.zeros(self.n_sequences, dtype=torch.float64)
        self._progress = progress
        self._restart_site = self.lm.restart_site(*self.sites)
        captured.want(LOSSES, *self.sites, self._restart_site)
        cpu = torch.device("cpu")
        centres: dict[str, list[Centre]] = {site: [] for site in self.sites}

        def then(shard: slice) -> None:
            positions = Positions.of(captured.batch, shard, cpu)
            self.ce[shard] = positions.per_sequence(captured.losses(shard).ce[None])[0]
            if len(positions.evaluated):
                for site, parts in centres.items():
                    parts.append(Centre.of(positions.at_evaluated(captured.activations(site, shard))))

        captured.complete(f"clean pass to {self.site}", then)
        self.centre = Centre.joined([Centre.merge(parts) for parts in centres.values()])

    @property
    def batch_size(self) -> int:
        return self.captured.batch_size

    @cached_property
    def zero(self) -> Losses:
        """The losses when the activation at every evaluated token is zero."""
        return self._ablated("zero", lambda batch: batch.activations.new_zeros(1))

    @cached_property
    def mean(self) -> Losses:
        """The losses when every evaluated token has the mean activation."""
        mean = to_device(self.centre.mean.to(self.lm.dtype), self.lm.device)
        return self._ablated("mean", lambda batch: mean)

    def spliced(self, replacement: Replacement, description: str) -> Losses:
        """The losses when ``replacement(batch)[tokens, d]`` replaces the activations at evaluated tokens."""
        with self._progress.task(description, self.n_sequences, "sequences") as ticker:
            return _join([self._splice(shard, replacement, ticker) for shard in self.captured.shards])

    def _ablated(self, kind: str, value: Replacement) -> Losses:
        """The losses when every evaluated token has ``value(batch)``, one row or a scalar; cached for later runs."""
        series = self.captured.series(f"{kind} ablation", site=self.site)
        parts: list[Losses] = []

        def replacement(batch: CleanBatch) -> Tensor:
            return value(batch).expand(len(batch.positions.evaluated), batch.activations.shape[-1])

        with self._progress.task(f"{kind} ablation", self.n_sequences, "sequences") as ticker:
            for shard in self.captured.shards:
                stored = series.read(shard)
                if stored is None:
                    losses = self._splice(shard, replacement, ticker)
                    series.write(shard, stored := {"ce": losses.ce, "kl": losses.kl})
                else:
                    ticker.advance(shard.stop - shard.start)
                parts.append(Losses(stored["ce"], stored["kl"]))
        return _join(parts)

    def _splice(self, shard: slice, replacement: Replacement, ticker: Ticker) -> Losses:
        """The losses of each sequence of a shard; on a GPU the CPU waits only once, at the end of the shard."""
        parts: list[Tensor] = []

        def work(rows: slice) -> None:
            parts.append(self._splice_batch(rows, replacement))
            ticker.advance(rows.stop - rows.start)

        self.captured.batch_size = for_batches(shard, self.captured.batch_size, work)
        ce, kl = torch.cat(parts, dim=1).cpu()
        return Losses(ce, kl)

    def _splice_batch(self, rows: slice, replacement: Replacement) -> Float[Tensor, "2 batch"]:
        lm, device = self.lm, self.lm.device
        positions = Positions.of(self.captured.batch, rows, device)
        batch = CleanBatch(positions, self.captured.joined(self.sites, rows))
        activation = positions.with_evaluated(batch.activations, replacement(batch).to(device, lm.dtype))
        inside = self._restart_site not in self.sites
        restart = to_device(self.captured.activations(self._restart_site, rows), device) if inside else None
        return sequence_losses(self.captured, positions, self._replaced(positions.tokens, activation, restart))

    def _replaced(self, tokens: Tensor, activation: Tensor, restart: Tensor | None) -> Tensor:
        """The final hidden states if ``activation[batch, position, d]`` replaces the activations at all sites."""
        if len(self.sites) == 1:
            return self.lm.suffix(tokens, self.sites[0], activation, restart)
        parts = activation.chunk(len(self.sites), dim=-1)
        return self.lm.suffix_of_several(tokens, dict(zip(self.sites, parts, strict=True)), restart)


def _join(parts: list[Losses]) -> Losses:
    return Losses(torch.cat([part.ce for part in parts]), torch.cat([part.kl for part in parts]))


def sequence_losses(
    captured: CapturedText, positions: Positions, hidden: Float[Tensor, "batch position d_model"]
) -> Float[Tensor, "2 batch"]:
    """Return the sums of CE and KL over the predictions of each sequence, in float64.

    Args:
        captured: The text, whose losses in the unmodified model are known.
        positions: The sequences.
        hidden: The final hidden states of the model that is compared with it.
    """
    head, clean = captured.lm.head, _on_device(captured.losses(positions.rows), captured.lm.device)
    losses = spliced_losses(head, positions.at_predictions(hidden), positions.targets, clean)
    return positions.per_sequence(torch.stack(losses))


def _on_device(losses: CleanLosses, device: torch.device) -> CleanLosses:
    mean = losses.mean_unembedding
    return CleanLosses(
        to_device(losses.hidden, device),
        to_device(losses.ce, device),
        to_device(losses.lse, device),
        None if mean is None else to_device(mean, device),
    )
