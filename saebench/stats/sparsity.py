"""How often latents fire: counts per sequence, kept sparse, and what follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from saebench.stats.intervals import Estimate, jackknife

_Entries = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]  # counts, sequences, latents
_NONE = np.zeros(0)
_UNMERGED = 2**20  # entries of blocks, 12 bytes each
_PENDING = 2**26  # counts that may stay on a GPU (256 MB)
_PERCENT = {"density_over_1pct": 1, "density_over_10pct": 10}


class FiringCounts:
    """Counts, per (sequence, latent), of tokens on which the latent is not zero; plus L0 and L1 per sequence."""

    def __init__(self, n_sequences: int, d_sae: int) -> None:
        self.n_sequences, self.d_sae = n_sequences, d_sae
        self._counts = sparse.csr_array((n_sequences, d_sae), dtype=np.int32)
        self._entries: list[_Entries] = []  # not yet in _counts
        # Per block: sequences of its tokens, sequences in it, counts [sequences, d_sae], L0 and L1 of its tokens.
        self._pending: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
        self._tokens = np.zeros(n_sequences)
        self._l0 = np.zeros(n_sequences)
        self._l1 = np.zeros(n_sequences)

    def add(
        self, codes: Float[Tensor, "tokens d_sae"] | tuple[Tensor, Tensor], sequence: Int[Tensor, " tokens"]
    ) -> None:
        """Add tokens; ``sequence[t]`` is the index of token t's sequence. All or nothing, if memory runs out.

        ``codes`` are dense, or (values, indices) ``[tokens, slots]`` whose unused slots hold 0. Both give the same
        counts and L0; L1 is summed in float64 and may differ in its last digit.
        """
        values = codes[0] if isinstance(codes, tuple) else codes
        device = values.device
        active = torch.ne(values, 0)
        present, local = torch.unique(sequence.cpu(), return_inverse=True)
        if device.type == "cuda":
            local = local.pin_memory().to(device, non_blocking=True)
        counts = torch.zeros(len(present), self.d_sae, dtype=torch.int32, device=device)
        if isinstance(codes, tuple):
            keys = local[:, None] * self.d_sae + codes[1]
            counts.view(-1).index_add_(0, keys.flatten(), active.flatten().to(torch.int32))
        else:
            counts.index_add_(0, local, active.to(torch.int32))
        l1 = values.abs().sum(-1, dtype=torch.float64)
        block = (sequence, present, counts, active.sum(-1), l1)
        if device.type != "cuda":
            self._take(*block)
            return
        self._pending.append(block)
        if sum(block[2].numel() for block in self._pending) > _PENDING:
            self._fetch()

    def _fetch(self) -> None:
        """Take over what a GPU has counted; only here does the CPU wait for it."""
        while self._pending:
            self._take(*self._pending[0])
            del self._pending[0]

    def _take(self, sequence: Tensor, present: Tensor, counts: Tensor, l0: Tensor, l1: Tensor) -> None:
        where = sequence.cpu().numpy()
        found = sparse.coo_array(counts.cpu().numpy())
        entries = _entries(found.data, present.numpy()[found.coords[0]], found.coords[1])
        l0_values, l1_values = l0.cpu().numpy(), l1.cpu().numpy()
        self._entries.append(entries)
        np.add.at(self._tokens, where, 1.0)
        np.add.at(self._l0, where, l0_values)
        np.add.at(self._l1, where, l1_values)
        # Blocks that cut a sequence in pieces name its latents once each: put them together now and then.
        if sum(len(part[0]) for part in self._entries) > _UNMERGED:
            self._merge()

    def _merge(self) -> None:
        counts, rows, columns = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        new = sparse.coo_array((counts, (rows, columns)), shape=self._counts.shape).tocsr()
        self._counts, self._entries = self._counts + new, []

    @property
    def per_sequence(self) -> sparse.csr_array:
        """Counts ``[n_sequences, d_sae]``."""
        self._fetch()
        if self._entries:
            self._merge()
        return self._counts

    def densities(self) -> NDArray[np.float64]:
        """Share of evaluated tokens on which each latent fires, ``[d_sae]``."""
        return np.asarray(self.per_sequence.sum(axis=0)) / self._tokens.sum()

    def ratios(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """L0 and L1 as (numerator, denominator) per sequence."""
        self._fetch()
        return {"l0": (self._l0, self._tokens), "l1": (self._l1, self._tokens)}

    def shares(self) -> dict[str, Estimate]:
        """Dead share, and shares of latents firing on more than 1 % and 10 % of tokens; jackknife over sequences."""
        counts = self.per_sequence
        total = 100 * np.asarray(counts.sum(axis=0), np.float64)
        ascending = np.sort(total)
        tokens = self._tokens.sum()
        values = self._shares(ascending, tokens, _NONE, _NONE)
        left_out = []
        for index in range(self.n_sequences):
            row = slice(counts.indptr[index], counts.indptr[index + 1])
            old = total[counts.indices[row]]  # of the latents that fire in the sequence that is left out
            new = old - 100 * counts.data[row].astype(np.float64)
            left_out.append(self._shares(ascending, tokens - self._tokens[index], old, new))
        return {
            name: _in_unit_interval(jackknife(value, np.array(left)))
            for name, value, *left in zip(["dead_share", *_PERCENT], values, *left_out, strict=True)
        }

    def _shares(
        self, ascending: NDArray[np.float64], tokens: float, old: NDArray[np.float64], new: NDArray[np.float64]
    ) -> list[float]:
        """Shares of latents that never fire, and that fire on more than each percentage of ``tokens``.

        ``ascending`` are 100 times the counts of all latents (whole numbers: percentages are compared exactly), of
        which those in ``old`` are replaced by ``new``.
        """
        if tokens <= 0:
            return [float("nan")] * (1 + len(_PERCENT))
        above = [
            self.d_sae - np.searchsorted(ascending, limit, side="right") - np.sum(old > limit) + np.sum(new > limit)
            for limit in (0.0, *(percent * tokens for percent in _PERCENT.values()))
        ]
        return [float((self.d_sae - above[0]) / self.d_sae), *(float(number / self.d_sae) for number in above[1:])]


def _entries(counts: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]) -> _Entries:
    return counts.astype(np.int32), rows.astype(np.int32), columns.astype(np.int32)


def _in_unit_interval(estimate: Estimate) -> Estimate:
    """A share's interval cannot leave [0, 1]."""
    low, high = np.clip([estimate.ci_low, estimate.ci_high], 0.0, 1.0)
    return Estimate(estimate.value, estimate.stderr, float(low), float(high), estimate.n, estimate.method)
