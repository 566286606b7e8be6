"""What the predictable part of the error is worth to the language model."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.lm.batching import to_device
from saebench.passes.clean import CleanBatch, CleanPass
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.stats.linear import LinearMap
from saebench.stats.rng import NO_CONTENT

# What is put in place of the activation: the reconstruction alone, with the predicted error added, and with a random
# vector of the same norm added instead.
SAE_ALONE, LINEAR, RANDOM = "sae", "sae_linear", "sae_random"


def spliced_losses(
    coder: Coder, predict: LinearMap | None, clean: CleanPass, context: TaskContext, *, random: bool
) -> dict[str, Float[Tensor, " sequences"]]:
    """The cross-entropy of each sequence, summed over predictions, under each condition.

    The random vector has the norm of the predicted error on each token. Its direction is uniform and drawn for each
    position of the text, so that all SAEs get the same directions.

    Args:
        coder: Encodes and decodes with the SAE.
        predict: From activations to the error, in the first columns. None where the reconstruction is exact, so that
            there is nothing to splice in; all losses are then NaN.
        clean: The clean pass at the site that the SAE reconstructs.
        context: Gives the generators of the random directions.
        random: Whether to measure the random control.
    """
    conditions = [SAE_ALONE, LINEAR, *([RANDOM] if random else [])]
    if predict is None:
        return {condition: torch.full_like(clean.ce, torch.nan) for condition in conditions}
    site_in = coder.sae.hook.site_in
    length = clean.captured.context_length

    def directions(batch: CleanBatch) -> Tensor:
        rows = batch.positions.rows
        drawn = [
            context.rng("dark_matter:direction", NO_CONTENT, row).standard_normal((length, coder.sae.d_out))
            for row in range(rows.start, rows.stop)
        ]
        noise = batch.positions.at_evaluated(to_device(torch.stack([*map(torch.from_numpy, drawn)]), clean.lm.device))
        return noise / noise.norm(dim=-1, keepdim=True)

    def replacement(condition: str, batch: CleanBatch) -> Tensor:
        positions, x = batch.positions, batch.activations
        if site_in != clean.site:  # a transcoder reads one site and reconstructs another
            x = to_device(clean.captured.activations(site_in, positions.rows), clean.lm.device)
        x = positions.at_evaluated(x).float()
        xhat = coder.reconstruct(x, lambda rows, codes: None)
        if condition == SAE_ALONE:
            return xhat
        added = predict(x)[:, : coder.sae.d_out]
        if condition == RANDOM:
            added = added.norm(dim=-1, keepdim=True) * directions(batch)
        return xhat + added.float()

    return {
        condition: clean.spliced(partial(replacement, condition), f"dark_matter {coder.sae.name} {condition}").ce
        for condition in conditions
    }
