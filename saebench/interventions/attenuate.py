"""Attenuation via Posterior Probabilities (APP, arXiv 2508.15094).

The more certain the concept is, the more a latent is reduced.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from saebench.errors import UsageError
from saebench.interventions.base import finite
from saebench.interventions.edit import LatentEdit
from saebench.interventions.latents import Latents
from saebench.interventions.places import Places
from saebench.interventions.posterior import Posterior


class Attenuate(LatentEdit):
    """The attenuation f'_j = f_j (1 - P(c | f_j))^power. With a threshold, f'_j = 0 where P(c | f_j) exceeds it.

    Both variants and the estimator of P are saebench's.
    """

    kind: ClassVar[str] = "attenuate"

    def __init__(
        self, latents: Latents, posterior: Posterior, *, power: float = 1.0, threshold: float | None = None
    ) -> None:
        """Build the intervention.

        Args:
            latents: The latents to attenuate.
            posterior: The posterior P of the concept for these latents, in the same order.
            power: The exponent; 0 changes nothing.
            threshold: A probability, instead of a power.

        Raises:
            UsageError: The posterior has another number of latents, a value is out of its range, or there are both a
                power and a threshold.
        """
        super().__init__(latents)
        if len(posterior.mean) != len(latents):
            raise UsageError(f"The posterior knows {len(posterior.mean)} latents, but {len(latents)} are to change.")
        if finite("power", power) < 0:
            raise UsageError(f"power must be at least 0, not {power}.")
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"threshold is a probability between 0 and 1, so it cannot be {threshold}.")
        if threshold is not None and power != 1:
            raise UsageError("An attenuation has either a power or a threshold, not both.")
        self.posterior, self.power, self.threshold = posterior, float(power), threshold

    def change(self, f: Tensor, places: Places) -> Tensor:
        p = self.posterior(f)
        if self.threshold is not None:
            return torch.where(p > self.threshold, -f, 0.0)
        return f * ((1 - p).pow(self.power) - 1)

    def settings(self) -> dict[str, Any]:
        return {"power": self.power, "threshold": self.threshold, "posterior": self.posterior.describe()}
