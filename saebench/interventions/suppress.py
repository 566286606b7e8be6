"""Interventions that suppress a concept by its latents: in part, or in the concept's range of activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import DataError, UsageError
from saebench.interventions.base import finite, per_latent
from saebench.interventions.edit import LatentEdit
from saebench.interventions.latents import Latents
from saebench.interventions.places import Places


class Scale(LatentEdit):
    """Scaling: f' = factor f. A factor of 1 - share suppresses a share of activations; a negative one reverses them."""

    kind: ClassVar[str] = "scale"

    def __init__(self, latents: Latents, factor: float) -> None:
        """Build the intervention. Raises UsageError if the factor is not finite."""
        super().__init__(latents)
        self.factor = finite("factor", factor)
        self.looks = self.factor != 1

    def change(self, f: Tensor, places: Places) -> Tensor:
        return (self.factor - 1) * f

    def settings(self) -> dict[str, Any]:
        return {"factor": self.factor}


class RangeMask(LatentEdit):
    """The range mask of arXiv 2502.06809: f'_j = 0 where mean_j - tau sd_j <= f_j <= mean_j + tau sd_j.

    The mean and the standard deviation are those of the latent on the concept's training examples.
    """

    kind: ClassVar[str] = "range"

    def __init__(
        self,
        latents: Latents,
        mean: float | Sequence[float],
        sd: float | Sequence[float],
        *,
        tau: float = 2.0,
    ) -> None:
        """Build the intervention.

        Args:
            latents: The latents to suppress.
            mean: The mean of each latent.
            sd: The standard deviation of each latent.
            tau: The half width of the range in standard deviations, 2 in the paper.

        Raises:
            UsageError: ``tau`` or a standard deviation is negative, or there is another number of values than latents.
        """
        super().__init__(latents)
        self.mean, self.sd = per_latent("mean", mean, len(latents)), per_latent("sd", sd, len(latents))
        self.tau = finite("tau", tau)
        if self.tau < 0 or min(self.sd, default=0.0) < 0:
            raise UsageError("tau and sd of a range mask must be at least 0.")

    @classmethod
    def fit(cls, latents: Latents, f: Float[Tensor, "examples n"], *, tau: float = 2.0) -> RangeMask:
        """Build the range mask of a concept from its training examples.

        Args:
            latents: The latents to suppress.
            f: Their activations on the examples. The standard deviation is that of the population.
            tau: The half width of the range in standard deviations.

        Raises:
            DataError: There is no example.
        """
        if not len(f):
            raise DataError("A range mask needs at least one training example of the concept.")
        f = f.double()
        return cls(latents, f.mean(0).tolist(), f.std(0, correction=0).tolist(), tau=tau)

    def change(self, f: Tensor, places: Places) -> Tensor:
        inside = (f - f.new_tensor(self.mean)).abs() <= self.tau * f.new_tensor(self.sd)
        return torch.where(inside, -f, 0.0)

    def settings(self) -> dict[str, Any]:
        return {"mean": self.mean, "sd": self.sd, "tau": self.tau}
