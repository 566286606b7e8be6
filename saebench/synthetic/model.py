"""A synthetic model: the directions of its features, the law of their firing, and the activations that they make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import ModelError

if TYPE_CHECKING:
    from sae_lens.synthetic import ActivationGenerator

_ELEMENTS = 2**20  # samples x features that are drawn at a time (4 MB in float32)


@dataclass(frozen=True)
class Samples:
    """Activations, and the magnitudes of the features that fire in them, on the CPU.

    Attributes:
        x: The activations.
        index: The number of the sample and of the feature for every firing, sorted by sample.
        magnitude: The magnitude of the feature in the sample, above 0.
        n_features: The number of features of the model.
    """

    x: Float[Tensor, "samples d"]
    index: Int[Tensor, "2 firings"]
    magnitude: Float[Tensor, " firings"]
    n_features: int

    def __len__(self) -> int:
        return len(self.x)

    def features(self, rows: slice) -> Float[Tensor, "rows features"]:
        """Return the magnitudes of all features in some of the samples, 0 where a feature does not fire.

        Args:
            rows: The samples, from its start to its stop.
        """
        start, stop, _ = rows.indices(len(self))
        ends = torch.searchsorted(self.index[0], torch.tensor([start, stop]))
        part = slice(int(ends[0]), int(ends[1]))
        dense = torch.zeros(stop - start, self.n_features)
        dense[self.index[0, part] - start, self.index[1, part]] = self.magnitude[part]
        return dense


class SyntheticModel:
    """Features with known directions. An activation is the sum of those that fire, times their magnitudes, plus a bias.

    Everything is on the CPU and in float32, so that the draws do not depend on the device of a run.

    Attributes:
        name: The reference.
        content_hash: A hash of everything that decides the distribution of its activations.
        directions: The directions of the features, unit vectors.
        bias: What is added to every activation.
        parents: The feature together with which alone each feature fires; -1 for a feature without a parent.
        latents: The number of latents that an SAE on it has by default.
    """

    def __init__(
        self,
        generator: ActivationGenerator,
        *,
        name: str,
        content_hash: str,
        directions: Float[Tensor, "features d"],
        bias: Float[Tensor, " d"],
        parents: Int[Tensor, " features"],
        latents: int,
    ) -> None:
        """Make a model of a generator of SAELens, which draws the magnitudes of the features.

        Raises:
            ModelError: A direction has no length, or a tensor holds NaN or Inf.
        """
        norms = directions.norm(dim=-1, keepdim=True)
        if not bool((torch.isfinite(directions).all() & (norms > 0).all() & torch.isfinite(bias).all()).item()):
            raise ModelError(f"{name}: the direction of a feature is zero, NaN or Inf; fetch or make the model again.")
        self._generator = generator
        self.name, self.content_hash = name, content_hash
        self.directions, self.bias, self.parents, self.latents = directions / norms, bias, parents, latents

    @property
    def n_features(self) -> int:
        """The number of features."""
        return len(self.directions)

    @property
    def d(self) -> int:
        """The width of the activations."""
        return self.directions.shape[1]

    @torch.no_grad()
    def sample(self, n: int, rng: np.random.Generator) -> Samples:
        """Draw samples.

        Args:
            n: How many.
            rng: What they are drawn with. The same state gives the same samples.
        """
        x, index, magnitude, step = [], [], [], max(1, _ELEMENTS // self.n_features)
        with _seeded(rng):
            for start in range(0, n, step):
                features = self._generator.sample(min(step, n - start)).float()
                fires = features.nonzero()
                x.append(features @ self.directions + self.bias)
                index.append(fires + torch.tensor([start, 0]))
                magnitude.append(features[fires[:, 0], fires[:, 1]])
        return Samples(torch.cat(x), torch.cat(index).T.contiguous(), torch.cat(magnitude), self.n_features)


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Let torch's generator, which SAELens draws from, go on from ``rng`` in the block and be as before after it."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(int(rng.integers(2**63)))
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
