"""Histograms of latents by class, with one bin for zero and quantile bins for all other activations.

The bin that an activation falls into depends on the activations only, never on labels. So bins are made once and can be
counted under any labelling: the true one, a permuted one, or one that leaves out examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PER_BIN = 10  # the fewest non-zero activations that a quantile bin of a latent should hold, in all tasks


@dataclass(frozen=True)
class Activations:
    """The non-zero activations of some latents on some examples; every other activation is zero.

    A latent and an example have at most one entry. The entries may be in any order.
    """

    latent: Int[Tensor, " entries"]  # from 0 to n_latents - 1
    example: Int[Tensor, " entries"]
    value: Float[Tensor, " entries"]
    n_latents: int
    n_examples: int

    @classmethod
    def of(cls, dense: Float[Tensor, "examples latents"]) -> Activations:
        """Return the non-zero entries of a dense matrix."""
        example, latent = dense.nonzero(as_tuple=True)
        return cls(latent, example, dense[example, latent], dense.shape[1], dense.shape[0])

    @property
    def active(self) -> Int[Tensor, " latents"]:
        """The number of examples on which each latent is not zero."""
        return torch.bincount(self.latent, minlength=self.n_latents)

    @property
    def mass(self) -> Float[Tensor, " latents"]:
        """The sum of each latent's absolute activations, in float64."""
        return torch.bincount(self.latent, self.value.abs().double(), minlength=self.n_latents)

    def latents(self, block: slice) -> Activations:
        """Return the activations of a range of latents, which are renumbered from 0."""
        inside = (self.latent >= block.start) & (self.latent < block.stop)
        latent = self.latent[inside] - block.start
        return Activations(latent, self.example[inside], self.value[inside], block.stop - block.start, self.n_examples)

    def of_latents(self, chosen: Tensor) -> Activations:
        """Return the activations of the latents for which ``chosen[latents]`` is True, renumbered in order."""
        number = chosen.cumsum(0) - 1
        inside = chosen[self.latent]
        latent = number[self.latent[inside]]
        return Activations(latent, self.example[inside], self.value[inside], int(chosen.sum()), self.n_examples)


@dataclass(frozen=True)
class Bins:
    """The bin of each entry of some activations. Bins are rows, and a latent's bins are consecutive, for zero first."""

    row: Int[Tensor, " entries"]
    example: Int[Tensor, " entries"]
    latent_of_row: Int[Tensor, " rows"]
    zero_row: Int[Tensor, " latents"]
    n_examples: int

    @property
    def n_rows(self) -> int:
        """The number of bins of all latents."""
        return len(self.latent_of_row)

    @property
    def n_latents(self) -> int:
        """The number of latents."""
        return len(self.zero_row)

    def counts(self, cell: Int[Tensor, " examples"], n_cells: int) -> Int[Tensor, "rows cells"]:
        """Return how many examples of each cell lie in each bin. A cell is a class, or a class and a group."""
        totals = torch.bincount(cell, minlength=n_cells)
        keys = self.row * n_cells + cell[self.example]
        counts = torch.bincount(keys, minlength=self.n_rows * n_cells).view(self.n_rows, n_cells)
        counts[self.zero_row] = totals - self.per_latent(counts)
        return counts

    def of_latents(self, chosen: Bool[Tensor, " latents"]) -> Bins:
        """Return the bins of the latents for which ``chosen`` is True, renumbered in order."""
        kept = chosen[self.latent_of_row]
        row_number, latent_number = kept.cumsum(0) - 1, chosen.cumsum(0) - 1
        inside = kept[self.row]
        return Bins(
            row_number[self.row[inside]],
            self.example[inside],
            latent_number[self.latent_of_row[kept]],
            row_number[self.zero_row[chosen]],
            self.n_examples,
        )

    def per_latent(self, values: Tensor) -> Tensor:
        """Return the sums ``[latents, ...]`` of ``values[rows, ...]`` over the bins of each latent."""
        total = values.new_zeros(self.n_latents, *values.shape[1:])
        return total.index_add_(0, self.latent_of_row, values)


def quantile_bins(activations: Activations, bins: int, per_bin: int) -> Bins:
    """Divide each latent's non-zero activations into quantile bins.

    Equal activations share a bin. Only the ranks of activations matter, so scaling a latent changes nothing.

    Args:
        activations: The activations of the latents.
        bins: The most quantile bins of a latent.
        per_bin: The least number of activations that a bin should hold, approximately. A latent with fewer than
            ``2 * per_bin`` non-zero activations has a single bin for them, because a bin that holds one activation
            would look pure under every labelling.
    """
    device = activations.latent.device
    by_value = activations.value.argsort(stable=True)
    order = by_value[activations.latent[by_value].argsort(stable=True)]
    latent, value = activations.latent[order], activations.value[order]
    active = activations.active
    position = torch.arange(len(latent), device=device)
    rises = torch.ones(len(latent), dtype=torch.bool, device=device)
    rises[1:] = (latent[1:] != latent[:-1]) | (value[1:] != value[:-1])
    first_equal = torch.where(rises, position, 0).cummax(0).values
    rank = first_equal - (active.cumsum(0) - active)[latent]
    n_bins = (active // per_bin).clamp(1, bins)
    zero_row = (n_bins + 1).cumsum(0) - (n_bins + 1)
    row = zero_row[latent] + 1 + rank * n_bins[latent] // active[latent]
    latent_of_row = torch.arange(activations.n_latents, device=device).repeat_interleave(n_bins + 1)
    return Bins(row, activations.example[order], latent_of_row, zero_row, activations.n_examples)
