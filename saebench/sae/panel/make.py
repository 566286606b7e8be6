"""How each SAE of the panel is made from what is known of the synthetic model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from saebench.errors import NotApplicableError, SAELoadError
from saebench.sae.panel.adapter import PanelSAE
from saebench.sae.panel.pairs import in_pairs
from saebench.sae.panel.train import train
from saebench.sae.protocol import SAE
from saebench.stats.rng import generator
from saebench.synthetic.model import Samples, SyntheticModel

_CALIBRATION = 8192  # samples to which thresholds are fitted
_COLUMNS = 1024  # latents whose thresholds are fitted at a time


@dataclass(frozen=True)
class _Oracle:
    """The model with its known features, and samples to fit thresholds to.

    Attributes:
        model: The model.
        samples: The samples.
        fires: Whether each feature fires in each sample.
        seed: The seed of random choices.
        name: The reference.
    """

    model: SyntheticModel
    samples: Samples
    fires: Bool[Tensor, "samples features"]
    seed: int
    name: str

    def random(self, purpose: str, *shape: int) -> Tensor:
        """Return standard normal numbers that the model, the seed and the purpose decide."""
        rng = generator(self.seed, f"synthetic-panel:{purpose}", self.model.content_hash)
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

    def shuffled(self, purpose: str, n: int) -> Tensor:
        """Return the numbers below ``n`` in random order."""
        return self.random(purpose, n).argsort()

    def before(self, encoder: Float[Tensor, "latents d"]) -> Float[Tensor, "samples latents"]:
        """Return the pre-activations of the samples."""
        return (self.samples.x - self.model.bias) @ encoder.T

    def detector(
        self, kind: str, directions: Float[Tensor, "latents d"], targets: Bool[Tensor, "samples latents"], **more: Any
    ) -> PanelSAE:
        """Return an SAE that reads and writes ``directions``, with the thresholds that detect ``targets`` best."""
        given = {"decoder": directions, "low": best_thresholds(self.before(directions), targets), **more}
        return PanelSAE(name=self.name, kind=kind, encoder=directions, bias=self.model.bias, **given)


def make(kind: str, model: SyntheticModel, *, name: str, seed: int, **options: Any) -> SAE:
    """Return an SAE of the panel for a model.

    Args:
        kind: The body of its reference, such as "oracle".
        model: The synthetic model.
        name: The reference.
        seed: The seed of everything that is drawn.
        **options: The options of the reference.

    Raises:
        SAELoadError: An option does not fit the model.
        NotApplicableError: Its features have no hierarchy, which the kind needs.
    """
    if kind in ("trained", "frozen"):
        return train(model, name=name, seed=seed, frozen=kind == "frozen", **options)
    samples = model.sample(_CALIBRATION, generator(seed, "synthetic-panel:calibration", model.content_hash))
    fires = samples.features(slice(None)) > 0
    return _MAKERS[kind](_Oracle(model, samples, fires, seed, name), **options)


def best_thresholds(
    before: Float[Tensor, "samples latents"], targets: Bool[Tensor, "samples latents"]
) -> Float[Tensor, " latents"]:
    """Return for each latent the threshold with the greatest F1 as a detector of its target.

    It lies in the middle between the two pre-activations that it separates. It is infinitely high, as far as float32
    goes, for a target that never occurs.
    """
    parts = zip(before.split(_COLUMNS, 1), targets.split(_COLUMNS, 1), strict=True)
    return torch.cat([_best_thresholds(*part) for part in parts])


def _best_thresholds(before: Tensor, targets: Tensor) -> Tensor:
    values, order = before.sort(dim=0, descending=True)
    hits = targets.gather(0, order).cumsum(0).double()
    fired = torch.arange(1, len(before) + 1, dtype=torch.float64)[:, None]
    positives = targets.sum(0)
    best = (2 * hits / (fired + positives)).argmax(0, keepdim=True)
    below = torch.cat([values[1:], values[-1:] - 1]).gather(0, best)
    middle = ((values.gather(0, best) + below) / 2)[0]
    return torch.where(positives > 0, middle, torch.finfo(middle.dtype).max)


def _oracle(known: _Oracle) -> SAE:
    return known.detector("oracle", known.model.directions, known.fires)


def _noisy(known: _Oracle, noise: float = 1.0) -> SAE:
    directions = known.model.directions
    error = normalize(known.random("noise", *directions.shape), dim=-1)
    return known.detector("noisy", normalize(directions + noise * error, dim=-1), known.fires)


def _merged(known: _Oracle, share: float = 1.0) -> SAE:
    pairs, alone = in_pairs(known.shuffled("pairs", known.model.n_features), share)
    directions = torch.cat([known.model.directions[pairs].sum(1), known.model.directions[alone]])
    targets = torch.cat([known.fires[:, pairs].any(-1), known.fires[:, alone]], 1)
    return known.detector("merged", normalize(directions, dim=-1), targets)


def _split(known: _Oracle) -> SAE:
    """Return two latents for each feature: one fires up to the median of its pre-activations, one above."""
    directions = known.model.directions
    before = known.before(directions)
    low = best_thresholds(before, known.fires)
    middle = torch.where(before > low, before, torch.nan).nanmedian(0).values
    middle = torch.where(middle.isnan(), low, middle)
    both = torch.cat([directions, directions])
    largest = torch.full_like(low, torch.finfo(low.dtype).max)
    return PanelSAE(
        name=known.name,
        kind="split",
        encoder=both,
        decoder=both,
        bias=known.model.bias,
        low=torch.cat([low, middle]),
        high=torch.cat([middle, largest]),
    )


def _absorbed(known: _Oracle, share: float = 1.0) -> SAE:
    """Return the oracle whose children write their parents' directions, too, and silence them (arXiv 2409.14507)."""
    children = (known.model.parents >= 0).nonzero()[:, 0]
    if not len(children):
        raise NotApplicableError(f"{known.name} needs features with a hierarchy, which {known.model.name} has not.")
    children = children[known.shuffled("children", len(children))[: max(1, round(share * len(children)))]]
    parents = known.model.parents[children]
    decoder = known.model.directions.clone()
    decoder[children] += known.model.directions[parents]
    pairs = torch.stack([children, parents])
    return known.detector("absorbed", known.model.directions, known.fires, decoder=decoder, pairs=pairs)


def _rotated(known: _Oracle, size: int = 4) -> SAE:
    """Return latents that span the same spaces as groups of features, in other directions."""
    n = known.model.n_features
    if not 2 <= size <= n:
        raise SAELoadError(f"{known.name}: groups must have from 2 to {n} features, as many as {known.model.name} has.")
    directions, target = known.model.directions.clone(), torch.arange(n)
    for group in known.shuffled("groups", n).split(size):
        rotation = torch.linalg.qr(known.random(f"rotation {int(group[0])}", len(group), len(group))).Q
        largest = rotation.abs().argmax(1)
        rotation = rotation * rotation.gather(1, largest[:, None]).sign()
        directions[group], target[group] = rotation @ known.model.directions[group], group[largest]
    return known.detector("rotated", normalize(directions, dim=-1), known.fires[:, target])


def _random(known: _Oracle, latents: int | None = None) -> SAE:
    """Return random directions, with one threshold for all that gives the L0 of the features (arXiv 2605.18229)."""
    m = latents or known.model.latents
    directions = normalize(known.random("directions", m, known.model.d), dim=-1)
    before = known.before(directions)
    active = min(max(1, int(known.fires.sum())), before.numel() - 1)
    threshold = before.flatten().kthvalue(before.numel() - active).values
    return PanelSAE(
        name=known.name,
        kind="random",
        encoder=directions,
        decoder=directions,
        bias=known.model.bias,
        low=threshold.expand(m).clone(),
        control=True,
    )


_MAKERS: dict[str, Callable[..., SAE]] = {
    "oracle": _oracle,
    "noisy": _noisy,
    "merged": _merged,
    "split": _split,
    "absorbed": _absorbed,
    "rotated": _rotated,
    "random": _random,
}
