"""What the latents do on samples whose features are known, and how close random directions come to the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.matching import one_to_one
from saebench.stats.reconstruction import Centre, ReconstructionSums
from saebench.synthetic.model import Samples, SyntheticModel
from saebench.tasks.ground_truth.data import BLOCK
from saebench.tasks.ground_truth.selection import Alignment

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Detection:
    """How well latents detect features: one value for each latent, 0 where a value is not defined."""

    precision: Array
    recall: Array
    f1: Array

    @classmethod
    def of(cls, hits: Array, fired: Array, positives: Array) -> Detection:
        """Count up: samples where latent and feature fire, where the latent does, and where the feature does."""
        precision, recall = _share(hits, fired), _share(hits, positives)
        return cls(precision, recall, _share(2 * hits, fired + positives))


@dataclass(frozen=True)
class Scores:
    """The counts and sums from which every number that depends on the samples follows.

    Attributes:
        fired: The number of samples of each block in which each latent fires, ``[blocks, latents]``.
        closest: How well each latent detects the feature that it is most similar to.
        paired: How well each latent of the one-to-one matching detects its feature.
        active: The number of features that fire in each block, summed over its samples.
        recovered: The magnitude that the paired latents give to their features where both fire, for each block.
        true: The true magnitude there.
        reconstruction: Sums for each block.
    """

    fired: Array
    closest: Detection
    paired: Detection
    active: Array
    recovered: Array
    true: Array
    reconstruction: ReconstructionSums


@dataclass
class _Block:
    """One block on the device of the SAE: latents, the true magnitudes of features, and where they are not 0."""

    z: Float[Tensor, "samples latents"]
    a: Float[Tensor, "samples features"]

    def __post_init__(self) -> None:
        self.fires: Bool[Tensor, "samples latents"] = self.z != 0
        self.true: Bool[Tensor, "samples features"] = self.a > 0


def evaluate(sae: SAE, model: SyntheticModel, samples: Samples, alignment: Alignment, device: torch.device) -> Scores:
    """Encode and decode every sample once.

    Args:
        sae: The SAE.
        model: The synthetic model.
        samples: Whole blocks of samples.
        alignment: The features of the latents.
        device: Where the SAE is.

    Raises:
        SaebenchError: The SAE gives NaN or Inf.
    """
    n = len(samples) // BLOCK
    reconstruction = ReconstructionSums(n, Centre.of(samples.x))
    latent, feature = (torch.from_numpy(side).to(device) for side in alignment.pairs.T)
    closest = torch.from_numpy(alignment.closest).to(device)
    gain = _gain(sae, model, latent.cpu(), feature.cpu()).to(device)
    fired = torch.zeros(n, sae.d_sae, dtype=torch.float64)
    magnitudes = torch.zeros(3, n, dtype=torch.float64)
    hits, paired = torch.zeros(sae.d_sae, dtype=torch.float64), torch.zeros(len(latent), dtype=torch.float64)
    positives = torch.zeros(model.n_features, dtype=torch.float64)
    for number in range(n):
        rows = slice(number * BLOCK, (number + 1) * BLOCK)
        x = samples.x[rows].to(device)
        block = _Block(sae.encode(x).float(), samples.features(rows).to(device))
        xhat = sae.decode(block.z, x)
        _check_finite(sae, block.z, xhat)
        reconstruction.add(x, xhat, torch.full((BLOCK,), number))
        both = block.fires[:, latent] & block.true[:, feature]
        fired[number] = _count(block.fires)
        hits += _count(block.fires & block.true[:, closest] & (closest >= 0))
        paired += _count(both)
        positives += _count(block.true)
        magnitudes[0, number] = block.true.sum()
        magnitudes[1, number] = (block.z[:, latent] * gain * both).sum(dtype=torch.float64)
        magnitudes[2, number] = (block.a[:, feature] * both).sum(dtype=torch.float64)
    total, seen = fired.sum(0).numpy(), positives.numpy()
    of_latent = np.where(alignment.closest >= 0, seen[alignment.closest], 0.0)
    ones, others = alignment.pairs.T
    return Scores(
        fired=fired.numpy(),
        closest=Detection.of(hits.numpy(), total, of_latent),
        paired=Detection.of(paired.numpy(), total[ones], seen[others]),
        active=magnitudes[0].numpy(),
        recovered=magnitudes[1].numpy(),
        true=magnitudes[2].numpy(),
        reconstruction=reconstruction,
    )


def chance(context: TaskContext, model: SyntheticModel, latents: int, draws: int) -> Array:
    """Return the MCC of random directions, one for each draw; it depends on the SAE only by its number of latents."""

    def draw(number: int) -> float:
        rng = context.rng("ground_truth:chance", model.content_hash, latents, number)
        directions = torch.from_numpy(rng.standard_normal((latents, model.d), dtype=np.float32))
        return one_to_one(directions, model.directions, absolute=True).mean

    key = ("ground_truth", "chance", latents, draws)
    return context.shared(key, lambda: np.array([draw(number) for number in range(draws)]))


def _gain(sae: SAE, model: SyntheticModel, latent: Tensor, feature: Tensor) -> Float[Tensor, " pairs"]:
    """Return what a latent of 1 adds along the direction of its feature."""
    decoder = sae.decoder_directions().detach().float().cpu()
    return (decoder[latent] * model.directions[feature]).sum(-1)


def _count(mask: Tensor) -> Tensor:
    return mask.sum(0).double().cpu()


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _check_finite(sae: SAE, z: Tensor, xhat: Tensor) -> None:
    for part, tensor in (("latents", z), ("reconstruction", xhat)):
        if not bool(torch.isfinite(tensor).all()):
            raise SaebenchError(
                f"{sae.name}: its {part} hold NaN or Inf, so nothing can be measured; look at its weights "
                "(saebench check-adapter)."
            )
