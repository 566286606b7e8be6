"""The model with one SAE of a group, and with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saebench.passes.clean import CleanBatch, CleanPass, Losses
from saebench.passes.context import TaskContext
from saebench.passes.joint import JointScores, ablate_jointly, splice_jointly
from saebench.passes.positions import Positions
from saebench.passes.reconstruct import reconstruct_evaluated
from saebench.sae.codes import Coder
from saebench.sae.protocol import SAE
from saebench.tasks.joint_splice.data import clean_pass
from saebench.tasks.joint_splice.settings import JointSpliceSettings


@dataclass(frozen=True)
class Scores:
    """The losses and sums from which every number of the task follows.

    Attributes:
        joint: The pass with all SAEs.
        clean: The unmodified model.
        zero: The losses with zero at all hook points that are replaced.
        mean: The losses with the means there.
        alone: The losses with each SAE alone.
        variance: For each SAE, the squared distance of what it replaces from its mean, for each sequence, in the
            unmodified model.
    """

    joint: JointScores
    clean: CleanPass
    zero: Losses
    mean: Losses
    alone: tuple[Losses, ...]
    variance: tuple[Tensor, ...]


def evaluate(saes: Sequence[SAE], context: TaskContext, settings: JointSpliceSettings) -> Scores:
    """Splice the SAEs in, one at a time and together."""
    passes = {sae.hook.site_out: clean_pass(context, settings, sae.hook.site_out) for sae in saes}
    clean = passes[saes[0].hook.site_out]
    captured, memory, progress = clean.captured, context.budget.encoder, context.progress
    means = {site: one.centre.mean for site, one in passes.items()}
    zeros = {site: torch.zeros_like(mean) for site, mean in means.items()}
    return Scores(
        joint=splice_jointly(saes, captured, memory, progress),
        clean=clean,
        zero=ablate_jointly(zeros, captured, progress),
        mean=ablate_jointly(means, captured, progress),
        alone=tuple(_alone(sae, passes[sae.hook.site_out], memory) for sae in saes),
        variance=tuple(map(_variance, passes.values())),
    )


def _alone(sae: SAE, clean: CleanPass, memory: int) -> Losses:
    coder = Coder(sae, memory)

    def replacement(batch: CleanBatch) -> Tensor:
        x, positions = batch.activations, batch.positions
        if sae.hook.crosses:  # a transcoder reads one site and reconstructs another
            x = clean.captured.joined(sae.hook.sites_in, positions.rows)
        return reconstruct_evaluated(coder, positions, x)

    return clean.spliced(replacement, f"joint_splice {sae.name}")


def _variance(clean: CleanPass) -> Tensor:
    """The squared distance of the activations from their mean, for each sequence."""
    sums = torch.zeros(clean.n_sequences, dtype=torch.float64)
    for shard in clean.captured.shards:
        positions = Positions.of(clean.captured.batch, shard, torch.device("cpu"))
        x = positions.at_evaluated(clean.captured.activations(clean.site, shard)).double()
        sums.index_add_(0, positions.sequence, (x - clean.centre.mean).square().sum(-1))
    return sums
