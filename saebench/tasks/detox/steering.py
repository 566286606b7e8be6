"""What is done to the language model: steering away from toxic latents in three tiers, zero ablation, and controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from saebench.evaluation.changes import NOISE, RANDOM_LATENTS, Setting, Sweep
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import Clamp, zero
from saebench.interventions.latents import Latents
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.steer import Steer, Tier
from saebench.sae.protocol import SAE
from saebench.tasks.detox.selection import LatentSet
from saebench.tasks.detox.settings import DetoxSettings

CHOSEN = ""  # the subset of the chosen setting
ZERO = "zero"


class LatentSteering:
    """Interventions by one set of latents of an SAE; the SAE's error stays in the activation.

    Steering subtracts each latent's decoder direction, times its mean activation, times the strength. The tier, which
    is the method of a setting, says at which tokens.
    """

    def __init__(self, sae: SAE, latents: LatentSet, budget: int) -> None:
        """Prepare the latents.

        Args:
            sae: The SAE that the latents belong to.
            latents: The latents, which may be none.
            budget: Bytes for encoding a block of tokens.

        Raises:
            NotApplicableError: The SAE has no linear decoder.
        """
        self._latents = Latents(sae, latents.indices, error="kept", budget=budget)
        self._scales = latents.scales

    def sweep(self, tier: Tier, strengths: Sequence[float]) -> Sweep[Intervention]:
        """Return steering in ``tier`` at rising strengths; without latents the sweep is empty."""
        rising = tuple(sorted(strengths)) if len(self._latents) else ()
        changes = tuple(self._steer(tier, strength) for strength in rising)
        return Sweep(tier, rising, changes, tuple(self._latents.indices))

    def steer(self, setting: Setting) -> Steer | None:
        """Return steering in a tier at one strength, or None where the setting changes nothing."""
        return None if setting.strength is None else self._steer(cast(Tier, setting.method), setting.strength)

    def zero(self) -> Clamp | None:
        """Return the ablation that sets the latents to 0, or None where there are no latents."""
        return zero(self._latents) if len(self._latents) else None

    def noise(self, setting: Setting, seed: int) -> EqualNormNoise | None:
        """Return noise with the norm of steering at each token, or None where the setting changes nothing."""
        steered = self.steer(setting)
        return None if steered is None else EqualNormNoise(steered, seed)

    def _steer(self, tier: Tier, strength: float) -> Steer:
        # In the tier "input" a latent counts as present from the token on at which it first fires, prompt included.
        return Steer(self._latents, -strength, tier=tier, scale=self._scales)


def changes_to_test(
    steering: LatentSteering, control: LatentSteering, chosen: Sequence[Setting], settings: DetoxSettings, seed: int
) -> dict[str, Intervention | None]:
    """Return what is done to the model on the test prompts, by subset; None where nothing is changed.

    Args:
        steering: Steers by the toxic latents.
        control: Steers by random latents.
        chosen: The chosen setting of each tier, the best one first.
        settings: Their ``methods`` say what is tested beside the best setting.
        seed: The seed of the noise.
    """
    best = chosen[0]
    changes: dict[str, Intervention | None] = {CHOSEN: steering.steer(best)}
    if "tiers" in settings.methods:
        for setting in chosen:
            changes[setting.method] = changes[CHOSEN] if setting is best else steering.steer(setting)
    if ZERO in settings.methods:
        changes[ZERO] = steering.zero()
    if RANDOM_LATENTS in settings.methods:
        changes[RANDOM_LATENTS] = control.steer(best)
    if NOISE in settings.methods:
        changes[NOISE] = steering.noise(best, seed)
    return changes
