"""How often latents fire: sparse counts per sequence, and the metrics that follow from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from saebench.stats.intervals import Estimate, clipped, jackknife

_Entries = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]  # counts, sequences, latents
_NONE = np.zeros(0)
_UNMERGED = 2**20  # the entries of blocks, 12 bytes each, that wait to be merged
_CHUNK, _CHUNK_GPU = 2**21, 2**26  # the latents of tokens that are counted at a time
_PENDING = 2**26  # the counts that may stay on a GPU (256 MB)
_PERCENT = {"density_over_1pct": 1, "density_over_10pct": 10}


class FiringCounts:
    """Counts, for each sequence and latent, the tokens on which the latent is not zero. Also sums L0 and L1."""

    def __init__(self, n_sequences: int, d_sae: int) -> None:
        """Begin with counts of 0 for ``n_sequences`` sequences and ``d_sae`` latents."""
        self.n_sequences, self.d_sae = n_sequences, d_sae
        self._counts = sparse.csr_array((n_sequences, d_sae), dtype=np.int32)
        self._entries: list[_Entries] = []  # not yet in _counts
        # For each block: its tokens' sequences, the sequences in it, their counts [sequences, d_sae], and its tokens'
        # L0 and L1.
        self._pending: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
        self._tokens = np.zeros(n_sequences)
        self._l0 = np.zeros(n_sequences)
        self._l1 = np.zeros(n_sequences)

    def add(
        self, codes: Float[Tensor, "tokens d_sae"] | tuple[Tensor, Tensor], sequence: Int[Tensor, " tokens"]
    ) -> None:
        """Add tokens. If memory runs out, none of them is added.

        Args:
            codes: The latents of each token: dense, or (values, indices) ``[tokens, slots]`` whose unused slots are 0.
                Both give the same counts and L0. L1 is summed in float64 and may differ in its last digit.
            sequence: The number of each token's sequence.
        """
        values = codes[0] if isinstance(codes, tuple) else codes
        device = values.device
        present, local = torch.unique(sequence.cpu(), return_inverse=True)
        if isinstance(codes, tuple) and device.type == "cpu":  # no table of all latents: it could take gigabytes
            active = torch.ne(values, 0)
            keys, times = (local[:, None] * self.d_sae + codes[1])[active].unique(return_counts=True)
            entries = _entries(times.numpy(), present[keys // self.d_sae].numpy(), (keys % self.d_sae).numpy())
            self._take(sequence, entries, active.sum(-1), values.abs().sum(-1, dtype=torch.float64))
            return
        if device.type == "cuda":
            local = local.pin_memory().to(device, non_blocking=True)
        counts = torch.zeros(len(present), self.d_sae, dtype=torch.int32, device=device)
        if isinstance(codes, tuple):
            active = torch.ne(values, 0)
            keys = local[:, None] * self.d_sae + codes[1]
            counts.view(-1).index_add_(0, keys.flatten(), active.flatten().to(torch.int32))
            l0, l1 = active.sum(-1), values.abs().sum(-1, dtype=torch.float64)
        else:
            l0, l1 = _add_dense(counts, local, values)
        block = (sequence, present, counts, l0, l1)
        if device.type != "cuda":
            self._take_table(*block)
            return
        self._pending.append(block)
        if sum(block[2].numel() for block in self._pending) > _PENDING:
            self._fetch()

    def _fetch(self) -> None:
        """Fetch the counts from the GPU. Only here does the CPU wait for it."""
        while self._pending:
            self._take_table(*self._pending[0])
            del self._pending[0]

    def _take_table(self, sequence: Tensor, present: Tensor, counts: Tensor, l0: Tensor, l1: Tensor) -> None:
        nonzero = sparse.coo_array(counts.cpu().numpy())
        self._take(sequence, _entries(nonzero.data, present.numpy()[nonzero.coords[0]], nonzero.coords[1]), l0, l1)

    def _take(self, sequence: Tensor, entries: _Entries, l0: Tensor, l1: Tensor) -> None:
        where = sequence.cpu().numpy()
        l0_values, l1_values = l0.cpu().numpy(), l1.cpu().numpy()
        self._entries.append(entries)
        np.add.at(self._tokens, where, 1.0)
        np.add.at(self._l0, where, l0_values)
        np.add.at(self._l1, where, l1_values)
        # A sequence that is cut into several blocks has an entry for a latent in each of them, so they are merged now
        # and then.
        if sum(len(part[0]) for part in self._entries) > _UNMERGED:
            self._merge()

    def _merge(self) -> None:
        counts, rows, columns = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        new = sparse.coo_array((counts, (rows, columns)), shape=self._counts.shape).tocsr()
        self._counts, self._entries = self._counts + new, []

    @property
    def per_sequence(self) -> sparse.csr_array:
        """The number of tokens of each sequence on which each latent fires, ``[n_sequences, d_sae]``."""
        self._fetch()
        if self._entries:
            self._merge()
        return self._counts

    def densities(self) -> NDArray[np.float64]:
        """Return the share of the tokens on which each latent fires, ``[d_sae]``."""
        return np.asarray(self.per_sequence.sum(axis=0)) / self._tokens.sum()

    def ratios(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return L0 and L1, each as a numerator and a denominator per sequence, ``[n_sequences]``."""
        self._fetch()
        return {"l0": (self._l0, self._tokens), "l1": (self._l1, self._tokens)}

    def shares(self) -> dict[str, Estimate]:
        """Return the share of dead latents, and of latents that fire on more than 1 % and more than 10 % of tokens.

        Their intervals are made by the jackknife over sequences.
        """
        counts = self.per_sequence
        total = 100 * np.asarray(counts.sum(axis=0), np.float64)
        ascending = np.sort(total)
        tokens = self._tokens.sum()
        values = self._shares(ascending, tokens, _NONE, _NONE)
        left_out = []
        for index in range(self.n_sequences):
            row = slice(counts.indptr[index], counts.indptr[index + 1])
            old = total[counts.indices[row]]  # the totals of the latents that fire in the sequence that is left out
            new = old - 100 * counts.data[row].astype(np.float64)
            left_out.append(self._shares(ascending, tokens - self._tokens[index], old, new))
        return {
            name: clipped(jackknife(value, np.array(left)), (0.0, 1.0))
            for name, value, *left in zip(["dead_share", *_PERCENT], values, *left_out, strict=True)
        }

    def _shares(
        self, ascending: NDArray[np.float64], tokens: float, old: NDArray[np.float64], new: NDArray[np.float64]
    ) -> list[float]:
        """Return the share of latents that never fire, and of those that fire on more than each percentage of tokens.

        Args:
            ascending: 100 times the count of each latent, sorted. These are whole numbers, so that percentages are
                compared exactly.
            tokens: The number of tokens.
            old: Values of ``ascending`` that are replaced.
            new: The values that replace them.
        """
        if tokens <= 0:
            return [float("nan")] * (1 + len(_PERCENT))
        above = [
            self.d_sae - np.searchsorted(ascending, limit, side="right") - np.sum(old > limit) + np.sum(new > limit)
            for limit in (0.0, *(percent * tokens for percent in _PERCENT.values()))
        ]
        return [float((self.d_sae - above[0]) / self.d_sae), *(float(number / self.d_sae) for number in above[1:])]


def _add_dense(counts: Tensor, local: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Count the active latents of tokens into ``counts[sequences, d_sae]``, and return each token's L0 and L1.

    A few tokens are taken at a time, because masks and absolute values of all of them take more than the latents do.
    """
    sums = []
    step = max(1, (_CHUNK_GPU if values.is_cuda else _CHUNK) // max(1, values.shape[1]))
    for rows in (slice(start, start + step) for start in range(0, max(1, len(values)), step)):
        active = torch.ne(values[rows], 0)
        counts.index_add_(0, local[rows], active.to(torch.int32))
        sums.append((active.sum(-1), values[rows].abs().sum(-1, dtype=torch.float64)))
    l0, l1 = (torch.cat(parts) for parts in zip(*sums, strict=True))
    return l0, l1


def _entries(counts: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]) -> _Entries:
    return counts.astype(np.int32), rows.astype(np.int32), columns.astype(np.int32)
