"""The synthetic models that saebench can make: their sizes and the laws that their features follow."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

_VERSION = 1  # of what a recipe makes; raised when the same recipe gives other numbers


@dataclass(frozen=True)
class Recipe:
    """How a synthetic model is made. The laws are those of SynthSAEBench (arXiv 2602.14687), by default its constants.

    Attributes:
        n_features: The number of features.
        d: The width of the activations.
        latents: The number of latents of the SAEs that are trained on it.
        p_max: The firing probability of the most frequent feature.
        p_min: That of the rarest one. Between them the probability falls with the rank, as 1 / rank ** exponent.
        exponent: The exponent of this law (Zipf's).
        roots: The number of trees of features, 0 for no hierarchy. A feature can only fire together with its parent.
        branching: The number of children of a feature that has any, of which only one fires at a time.
        depth: The number of generations below a root.
        rank: The rank of the correlations between the firings of features; 0 if they are independent.
        correlation: The scale of these correlations.
        orthogonal: The number of steps that push the random directions of the features apart; None makes them exactly
            orthogonal, for which there may be at most ``d`` features.
        magnitude_first: The mean magnitude of the most frequent feature where it fires.
        magnitude_last: That of the rarest one; between them the mean magnitude is linear in the rank.
        spread: The standard deviations of the magnitudes are drawn as ``abs(N(spread, spread ** 2))``.
        bias: The length of the vector that is added to every activation.
    """

    n_features: int
    d: int
    latents: int
    p_max: float = 0.4
    p_min: float = 5e-4
    exponent: float = 0.5
    roots: int = 0
    branching: int = 4
    depth: int = 3
    rank: int = 25
    correlation: float = 0.1
    orthogonal: int | None = 100
    magnitude_first: float = 5.0
    magnitude_last: float = 4.0
    spread: float = 0.5
    bias: float = 0.5

    def content_hash(self, seed: int) -> str:
        """Return the hash of everything that decides the model of this recipe and seed.

        It is a hash of the recipe and not of tensors, so that it is the same on machines that round differently.
        """
        text = json.dumps({"version": _VERSION, "seed": seed, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


_TINY = Recipe(n_features=24, d=16, latents=24, p_max=0.3, p_min=0.05, roots=3, branching=2, depth=1, rank=4)
RECIPES = {
    # For tests: it is made in milliseconds, and an SAE is trained on it in seconds.
    "tiny": _TINY,
    # As many dimensions as features need to be orthogonal, so that a linear encoder can recover them exactly.
    "orthogonal": replace(_TINY, d=32, orthogonal=None, spread=0.2),
    # Eight features for each dimension; an SAE is trained on it in a minute or two on two cores.
    "small": Recipe(n_features=1024, d=128, latents=256, p_min=2e-3, roots=32, branching=4, depth=2),
}
