"""How often latents fire: counts per sequence, kept sparse, and what follows from them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from saebench.stats.intervals import Estimate, jackknife


class FiringCounts:
    """Counts, per (sequence, latent), of tokens on which the latent is not zero; plus L0 and L1 per sequence."""

    def __init__(self, n_sequences: int, d_sae: int) -> None:
        self.n_sequences, self.d_sae = n_sequences, d_sae
        self._entries: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
        self._tokens = np.zeros(n_sequences)
        self._l0 = np.zeros(n_sequences)
        self._l1 = np.zeros(n_sequences)

    def add(self, z: Float[Tensor, "tokens d_sae"], sequence: Int[Tensor, " tokens"]) -> None:
        """Add tokens; ``sequence[t]`` is the index of token t's sequence. All or nothing, if memory runs out."""
        active = z != 0
        l0 = active.sum(-1).cpu().numpy()
        l1 = z.abs().sum(-1, dtype=torch.float64).cpu().numpy()
        present, local = torch.unique(sequence, return_inverse=True)
        counts = torch.zeros(len(present), self.d_sae, device=z.device)
        counts.index_add_(0, local, active.to(counts.dtype))
        rows = present.cpu().numpy()
        found = sparse.coo_array(counts.cpu().numpy())
        where = sequence.cpu().numpy()
        self._entries.append((found.data.astype(np.int64), rows[found.coords[0]], found.coords[1].astype(np.int64)))
        np.add.at(self._tokens, where, 1.0)
        np.add.at(self._l0, where, l0)
        np.add.at(self._l1, where, l1)

    @property
    def per_sequence(self) -> sparse.csr_array:
        """Counts ``[n_sequences, d_sae]``."""
        shape = (self.n_sequences, self.d_sae)
        if not self._entries:
            return sparse.csr_array(shape, dtype=np.int64)
        counts, rows, columns = (np.concatenate(parts) for parts in zip(*self._entries, strict=True))
        return sparse.coo_array((counts, (rows, columns)), shape=shape).tocsr()

    def densities(self) -> NDArray[np.float64]:
        """Share of evaluated tokens on which each latent fires, ``[d_sae]``."""
        return np.asarray(self.per_sequence.sum(axis=0)) / self._tokens.sum()

    def ratios(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """L0 and L1 as (numerator, denominator) per sequence."""
        return {"l0": (self._l0, self._tokens), "l1": (self._l1, self._tokens)}

    def shares(self) -> dict[str, Estimate]:
        """Dead share, and shares of latents firing on more than 1 % and 10 % of tokens; jackknife over sequences."""
        counts = self.per_sequence
        total = np.asarray(counts.sum(axis=0), np.float64)
        tokens = self._tokens.sum()
        rules = {"dead_share": None, "density_over_1pct": 1, "density_over_10pct": 10}
        values = {name: _share(total, tokens, rule) for name, rule in rules.items()}
        left_out: dict[str, list[float]] = {name: [] for name in rules}
        for index in range(self.n_sequences):
            row = slice(counts.indptr[index], counts.indptr[index + 1])
            rest = total.copy()
            rest[counts.indices[row]] -= counts.data[row]
            for name, rule in rules.items():
                left_out[name].append(_share(rest, tokens - self._tokens[index], rule))
        return {name: _in_unit_interval(jackknife(values[name], np.array(left_out[name]))) for name in rules}


def _share(counts: NDArray[np.float64], tokens: float, above: int | None) -> float:
    """Share of latents that never fire, or fire on more than ``above`` percent (compared in whole numbers)."""
    if tokens <= 0:
        return float("nan")
    return float(np.mean(counts == 0) if above is None else np.mean(100 * counts > above * tokens))


def _in_unit_interval(estimate: Estimate) -> Estimate:
    """A share's interval cannot leave [0, 1]."""
    low, high = np.clip([estimate.ci_low, estimate.ci_high], 0.0, 1.0)
    return Estimate(estimate.value, estimate.stderr, float(low), float(high), estimate.n, estimate.method)
