"""The dynamic guardrail of DSG (arXiv 2504.08192), which clamps only in texts in which latents fire often enough."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saebench.errors import UsageError
from saebench.interventions.base import finite
from saebench.interventions.edit import LatentEdit, fires
from saebench.interventions.latents import Latents
from saebench.interventions.memory import Running, Scope
from saebench.interventions.places import Places


class DynamicGuardrail(LatentEdit):
    """A clamp f' = value of all latents, at tokens at which any of them fires, in texts with rho > tau.

    rho is the share of a text's tokens at which any of the latents fires; tokens outside the mask do not count. The
    paper's gate looks at the whole text (``scope="whole"``), so it is not causal and serves only for scoring. The
    running gate, which is saebench's, looks at the tokens so far and can also be used in generation.
    """

    kind: ClassVar[str] = "dsg"

    def __init__(self, latents: Latents, *, tau: float, value: float = -500.0, scope: Scope = "running") -> None:
        """Build the intervention.

        Args:
            latents: The latents to clamp.
            tau: The threshold of rho. The paper uses the 95th percentile of rho on retained texts.
            value: The value that latents are set to.
            scope: Whether rho is over the tokens so far or over the whole text.

        Raises:
            UsageError: ``tau`` is not a share, ``value`` is not finite, or ``scope`` is unknown.
        """
        super().__init__(latents)
        if not 0 <= tau <= 1:
            raise UsageError(f"tau is a share of tokens between 0 and 1, so it cannot be {tau}.")
        self.tau, self.value, self.scope = float(tau), finite("value", value), scope
        self.whole = scope == "whole"
        self._counts = Running("sum", scope)

    def change(self, f: Tensor, places: Places) -> Tensor:
        firing = fires(f).any(-1, keepdim=True)
        counts = self._counts(places.grid(torch.cat([firing, torch.ones_like(firing)], dim=-1).double()))
        fired, seen = places.at(counts).split(1, dim=-1)
        return torch.where(firing & (fired / seen > self.tau), self.value - f, 0.0)

    def reset(self) -> None:
        super().reset()
        self._counts.reset()

    def settings(self) -> dict[str, Any]:
        return {"tau": self.tau, "value": self.value, "scope": self.scope}


def firing_shares(f: Float[Tensor, "tokens n"], mask: Bool[Tensor, "batch position"]) -> Float[Tensor, " batch"]:
    """Return rho of each text, the share of its tokens (in ``mask``) at which any latent fires; NaN without tokens.

    ``f`` holds the latents at the tokens of the mask.
    """
    places = Places.of(mask)
    firing = places.grid(fires(f).any(-1, keepdim=True).double())[..., 0]
    return firing.sum(1) / mask.sum(1)
