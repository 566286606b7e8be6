"""How often, and how strongly, the latents of one SAE fire on the evaluated text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.lm.batching import to_device
from saebench.passes.captured import CapturedText
from saebench.passes.positions import Positions
from saebench.sae.codes import Coder, Codes
from saebench.sae.protocol import SAE, SparseCodes
from saebench.stats.sparsity import FiringCounts


@dataclass(frozen=True)
class FiringTotals:
    """Totals over the evaluated tokens for each of some latents, ``[latents]``."""

    counts: NDArray[np.int64]  # tokens on which the latent is not zero
    mass: NDArray[np.float64]  # sum of |activation|

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Which latents fire on at least one token."""
        return self.counts > 0

    def at(self, rows: NDArray[np.int64]) -> FiringTotals:
        """The totals of the latents in these places."""
        return FiringTotals(self.counts[rows], self.mass[rows])


@torch.no_grad()
def firing_totals(sae: SAE, captured: CapturedText, memory: int) -> FiringTotals:
    """Encode every evaluated token once, and add up what fires.

    Args:
        sae: A position-wise SAE.
        captured: The text, with the activations that ``sae`` reads.
        memory: Bytes for the latents of a block of tokens.

    Raises:
        SaebenchError: The SAE gives NaN or Inf.
    """
    firing = FiringCounts(captured.n_sequences, sae.d_sae)
    device = captured.lm.device
    mass = torch.zeros(sae.d_sae, dtype=torch.float64, device=device)
    coder = Coder(sae, memory)
    for shard in captured.shards:
        positions = Positions.of(captured.batch, shard, device)
        if not len(positions.evaluated):
            continue
        x = positions.at_evaluated(to_device(captured.activations(sae.hook.site_in, shard), device))

        def add(rows: slice, codes: Codes, sequence: Tensor = positions.sequence) -> None:
            firing.add(codes, sequence[rows])
            _add_mass(mass, codes)

        coder.reconstruct(x, add)
    if not bool(torch.isfinite(mass).all()):
        raise SaebenchError(
            f"{sae.name}: {int((~torch.isfinite(mass)).sum())} of its latents are NaN or Inf on this text, so it "
            "cannot be compared; see what it does to activations of this size at this hook (saebench check-adapter)."
        )
    counts = np.asarray(firing.per_sequence.sum(axis=0)).astype(np.int64)
    return FiringTotals(counts, mass.cpu().numpy())


def _add_mass(mass: Tensor, codes: Codes) -> None:
    if isinstance(codes, SparseCodes):
        mass.index_add_(0, codes.indices.flatten(), codes.values.flatten().abs().double())
    else:
        mass += codes.abs().sum(0, dtype=torch.float64)
