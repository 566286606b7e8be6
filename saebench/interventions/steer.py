"""Steering by decoder rows, in the three tiers of arXiv 2505.14536."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from saebench.errors import UsageError
from saebench.interventions.base import finite, per_latent
from saebench.interventions.edit import LatentEdit, fires
from saebench.interventions.latents import Latents
from saebench.interventions.memory import Running, Scope
from saebench.interventions.places import Places

Tier = Literal["constant", "input", "token"]
TIERS: tuple[Tier, ...] = ("constant", "input", "token")
# The weight of a latent, taken over the token (tier "token") or over the input (tier "input"): 1 if it has fired, its
# mean where it fires, or its maximum.
Weight = Literal["fired", "mean", "max"]
WEIGHTS: tuple[Weight, ...] = ("fired", "mean", "max")


class Steer(LatentEdit):
    """Steering: x'_t = x_t + strength sum_j scale_j w_j(t) d_j, where d_j are the decoder rows.

    * In the tier ``constant``, w = 1 at every token.
    * In the tier ``input``, w_j(t) is a statistic of f_j over this input's tokens so far, so that the weight ``fired``
      stays 1 once the latent has fired. With ``scope="whole"`` it is over all tokens, which is not causal.
    * In the tier ``token``, w_j(t) is the statistic of f_j(t), so that a token changes only if the latent fires there.

    The weight ``fired`` (1 or 0) is the paper's condition. The paper does not publish its scale factor, and ``mean``
    and ``max`` are saebench's.
    """

    kind: ClassVar[str] = "steer"

    def __init__(
        self,
        latents: Latents,
        strength: float,
        *,
        tier: Tier = "constant",
        scale: float | Sequence[float] = 1.0,
        weight: Weight = "fired",
        scope: Scope = "running",
    ) -> None:
        """Build the intervention.

        Args:
            latents: The latents whose decoder rows are added.
            strength: The factor of the whole change; a negative one steers away from the latents.
            tier: When a latent counts.
            scale: A factor for each latent, such as its mean where it fires.
            weight: The statistic of a latent that its row is multiplied by.
            scope: The tokens that the tier ``input`` looks at.

        Raises:
            NotApplicableError: The SAE has no linear decoder, or has signed latents with the weight ``max``.
            UsageError: A setting is unknown or not finite, or two settings contradict each other.
        """
        super().__init__(latents)
        _ = latents.directions  # raises NotApplicableError without a linear decoder
        if tier not in TIERS:
            raise UsageError(f"tier must be one of {', '.join(TIERS)}, not {tier!r}.")
        if weight not in WEIGHTS:
            raise UsageError(f"weight must be one of {', '.join(WEIGHTS)}, not {weight!r}.")
        if tier == "constant" and weight != "fired":
            raise UsageError(f"weight={weight} needs tier=input or tier=token; the constant tier reads no latent.")
        if tier != "input" and scope != "running":
            raise UsageError(f"scope={scope} needs tier=input; the other tiers look at single tokens.")
        if weight == "max":
            latents.require_sizes("weight=max")
        self.strength, self.scale = finite("strength", strength), per_latent("scale", scale, len(latents))
        self.tier, self.weight, self.scope = tier, weight, scope
        self.looks = tier != "constant" and self.strength != 0
        self.whole = scope == "whole"
        self._largest, self._sums = Running("max", scope), Running("sum", scope)

    def change(self, f: Tensor, places: Places) -> Tensor:
        return self.strength * f.new_tensor(self.scale) * self._weights(f, places)

    def reset(self) -> None:
        super().reset()
        self._largest.reset()
        self._sums.reset()

    def settings(self) -> dict[str, Any]:
        return {
            "strength": self.strength,
            "tier": self.tier,
            "scale": self.scale,
            "weight": self.weight,
            "scope": self.scope,
        }

    def _weights(self, f: Tensor, places: Places) -> Tensor:
        if self.tier == "constant":
            return torch.ones_like(f)
        firing = fires(f).to(f.dtype)
        if self.tier == "token":
            return firing if self.weight == "fired" else f
        if self.weight == "mean":
            total, count = places.at(self._sums(places.grid(torch.cat([f, firing], dim=-1)))).chunk(2, dim=-1)
            return (total / count.clamp(min=1)).to(f.dtype)
        seen = places.at(self._largest(places.grid(firing if self.weight == "fired" else f)))
        return seen.to(f.dtype)
