"""Cross-entropy and KL divergence of the language model without, and with nothing but, a group of latents."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.passes.clean import CleanBatch, CleanPass, Losses
from saebench.sae.protocol import SAE
from saebench.tasks.seed_stability.scoring.group_decoder import GroupDecoder


def group_losses(
    sae: SAE, group: NDArray[np.bool_], clean: CleanPass, memory: int, what: str, *, keep: bool = False
) -> Losses:
    """The losses without a group G of latents, or with nothing but these latents.

    Args:
        sae: The SAE that the group belongs to.
        group: The latents of the group, ``[d_sae]``.
        clean: The clean pass at the site that the SAE reconstructs.
        memory: Bytes for the latents of a block of tokens.
        what: What the progress shows before the SAE's name.
        keep: False puts ``x - f_G W_G`` in place of x, so that the SAE's error stays; True puts ``f_G W_G`` and the
            decoder's constant there, so that the SAE's error is left out too.
    """
    # The decoder's constant is not known, so G is kept alone by subtracting the other latents from the reconstruction.
    decoder = GroupDecoder(sae, (~group if keep else group)[None], memory, clean.lm.device)

    def replacement(batch: CleanBatch) -> Tensor:
        xhat, contributions = decoder.contributions(clean.captured, batch.positions)
        whole = xhat if keep else batch.positions.at_evaluated(batch.activations).float()
        return whole - contributions[0]

    with torch.no_grad():
        return clean.spliced(replacement, f"{what} {sae.name}")
