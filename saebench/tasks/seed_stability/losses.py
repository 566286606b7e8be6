"""Cross-entropy and KL divergence of the language model without, and with nothing but, a group of latents."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.passes.clean import CleanBatch, CleanPass, Losses
from saebench.sae.protocol import SAE
from saebench.tasks.seed_stability.parts import GroupDecoder


def without(sae: SAE, group: NDArray[np.bool_], clean: CleanPass, memory: int, what: str) -> Losses:
    """Losses with ``x - f_G W_G`` in place of x: the group G is left out, the SAE's error stays."""
    return _spliced(sae, group, clean, memory, what, keep=False)


def only(sae: SAE, group: NDArray[np.bool_], clean: CleanPass, memory: int, what: str) -> Losses:
    """Losses with ``f_G W_G`` and the decoder's constant in place of x: the SAE's error is left out too."""
    return _spliced(sae, group, clean, memory, what, keep=True)


def _spliced(sae: SAE, group: NDArray[np.bool_], clean: CleanPass, memory: int, what: str, *, keep: bool) -> Losses:
    # To keep G alone, everything else is left out of the reconstruction.
    left_out = ~group if keep else group
    decoder = GroupDecoder(sae, left_out[None], memory, clean.lm.device)

    def replacement(batch: CleanBatch) -> Tensor:
        xhat, parts = decoder.parts(clean.captured, batch.positions)
        if keep:
            return xhat - parts[0]
        return batch.positions.at_evaluated(batch.activations).float() - parts[0]

    with torch.no_grad():
        return clean.spliced(replacement, f"{what} {sae.name}")
