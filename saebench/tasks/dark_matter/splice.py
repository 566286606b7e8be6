"""What the predictable part of the error is worth to the language model."""

from __future__ import annotations

import torch
from torch import Tensor

from saebench.lm.batching import to_device
from saebench.passes.clean import CleanBatch, CleanPass
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.stats.linear import LinearMap

# Conditions: the reconstruction, with the predicted error added, and with noise of the same norm instead.
SAE_ALONE, LINEAR, RANDOM = "sae", "sae_linear", "sae_random"


def conditions(*, random: bool) -> list[str]:
    """What is spliced in."""
    return [SAE_ALONE, LINEAR, *([RANDOM] if random else [])]


def spliced_losses(
    coder: Coder, fitted: LinearMap, clean: CleanPass, context: TaskContext, *, random: bool
) -> dict[str, Tensor]:
    """Cross-entropy per sequence, summed over predictions, for each condition.

    The noise has the norm of the predicted error on each token and a direction that is uniform, drawn for each place
    of the text, so that all SAEs get the same directions.
    """
    site_in = coder.sae.hook.site_in
    length = clean.captured.context_length

    def directions(batch: CleanBatch) -> Tensor:
        rows = batch.positions.rows
        drawn = [
            context.rng(f"dark_matter:direction:{row}").standard_normal((length, coder.sae.d_out))
            for row in range(rows.start, rows.stop)
        ]
        noise = batch.positions.at_evaluated(to_device(torch.stack([*map(torch.from_numpy, drawn)]), clean.lm.device))
        return noise / noise.norm(dim=-1, keepdim=True)

    def replacement(condition: str, batch: CleanBatch) -> Tensor:
        positions, x = batch.positions, batch.activations
        if site_in != clean.site:
            x = to_device(clean.captured.activations(site_in, positions.rows), clean.lm.device)
        x = positions.at_evaluated(x).float()
        xhat = coder.reconstruct(x, lambda rows, codes: None)
        if condition == SAE_ALONE:
            return xhat
        added = fitted(x)[:, : coder.sae.d_out]
        if condition == RANDOM:
            added = added.norm(dim=-1, keepdim=True) * directions(batch)
        return xhat + added.float()

    return {
        condition: clean.spliced(
            lambda batch, condition=condition: replacement(condition, batch),  # type: ignore[misc]
            f"dark_matter {coder.sae.name} {condition}",
        ).ce
        for condition in conditions(random=random)
    }
