"""What is done to the language model: tiers of steering by toxic latents, zero ablation, and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from saebench.interventions.base import Intervention
from saebench.interventions.clamp import zero
from saebench.interventions.latents import Latents
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.steer import Steer, Tier
from saebench.interventions.vectors import AddVector
from saebench.sae.protocol import SAE
from saebench.tasks.detox.latents import LatentSet


@dataclass(frozen=True)
class Setting:
    """A tier of steering and its strength: how many times its mean activation is taken from each latent."""

    tier: Tier
    strength: float

    def note(self) -> dict[str, Any]:
        return asdict(self)


class Settings:
    """Interventions by one set of latents of an SAE; the SAE's error stays in the activation."""

    def __init__(self, sae: SAE, latents: LatentSet, budget: int) -> None:
        """``budget`` in bytes, for encoding. Raises NotApplicableError without a linear decoder."""
        self.latents = Latents(sae, latents.indices, error="kept", budget=budget)
        self.scales = latents.scales

    def steered(self, setting: Setting) -> Steer:
        """Away from the latents: the per-input tier latches once a latent has fired, prompt included."""
        return Steer(self.latents, -setting.strength, tier=setting.tier, scale=self.scales)

    def zeroed(self) -> Intervention:
        return zero(self.latents)

    def noise(self, setting: Setting, seed: int) -> EqualNormNoise:
        """Noise of the norm that steering has at each token."""
        return EqualNormNoise(self.steered(setting), seed)


def sweep(tiers: Sequence[Tier], strengths: Sequence[float]) -> list[Setting]:
    """All settings, tier by tier, by rising strength."""
    return [Setting(tier, strength) for tier in tiers for strength in sorted(strengths)]


def away(site: str, difference: Tensor, strength: float) -> AddVector:
    """``strength`` times the difference of means, toxic minus neutral, taken from every token."""
    return AddVector(site, difference, -strength)
