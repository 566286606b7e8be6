"""What is done to the language model: steering away from toxic latents in three tiers, zero ablation, and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from saebench.evaluation.changes import NOISE, RANDOM_LATENTS, Setting, Sweep
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import Clamp, zero
from saebench.interventions.latents import Latents
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.steer import Steer, Tier
from saebench.sae.protocol import SAE
from saebench.tasks.detox.scoring.likelihood import TextPairs, Tried
from saebench.tasks.detox.selection import LatentSet, choose
from saebench.tasks.detox.settings import DetoxSettings

CHOSEN = ""  # the subset of the chosen setting
ZERO = "zero"

# What is done to the model in each subset: one intervention, or several of which the mean is reported. None changes
# nothing.
Changes = dict[str, list[Intervention | None]]


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

    def noise_sweep(self, setting: Setting, strengths: Sequence[float], seed: int) -> Sweep[Intervention]:
        """Return noise with the norm, at each token, of steering in the tier of ``setting``, at rising strengths.

        Where the setting changes nothing, the sweep is empty.
        """
        rising = () if setting.strength is None else tuple(sorted(strengths))
        return Sweep(NOISE, rising, tuple(self._noise(setting.method, strength, seed) for strength in rising))

    def noise(self, setting: Setting, strength: float | None, seed: int) -> EqualNormNoise | None:
        """Return noise with the norm of steering in the tier of ``setting`` at ``strength``; None for no strength."""
        return None if strength is None else self._noise(setting.method, strength, seed)

    def _noise(self, tier: str, strength: float, seed: int) -> EqualNormNoise:
        return EqualNormNoise(self._steer(cast(Tier, tier), strength), seed)

    def _steer(self, tier: Tier, strength: float) -> Steer:
        # In the tier "input" a latent counts as present from the token on at which it first fires, prompt included.
        return Steer(self._latents, -strength, tier=tier, scale=self._scales)


@dataclass(frozen=True, eq=False)
class Steered:
    """Steering by one set of latents, and the setting of each tier that validation chose, the best one first."""

    steering: LatentSteering
    tried: list[Tried]
    chosen: list[Setting]

    @property
    def best(self) -> Setting:
        """The best setting."""
        return self.chosen[0]


def steered(
    sae: SAE, sets: Sequence[LatentSet], pairs: TextPairs, settings: DetoxSettings, budget: int
) -> list[Steered]:
    """Choose tier and strength for each set of latents, by the same rule, on the validation texts ``pairs``."""
    steerings = [LatentSteering(sae, latents, budget) for latents in sets]
    sweeps = [steering.sweep(tier, settings.strengths) for steering in steerings for tier in settings.tiers]
    tried = pairs.tried(sweeps, "validation texts under steering")
    n = len(settings.tiers)
    by_set = [tried[start : start + n] for start in range(0, len(tried), n)]
    return [Steered(*one, choose(one[1], settings)) for one in zip(steerings, by_set, strict=True)]


def changes_to_test(
    ours: Steered, controls: Sequence[Steered], pairs: TextPairs, settings: DetoxSettings, seed: int
) -> Changes:
    """Return what is done to the model on the test split, by subset.

    Args:
        ours: Steering by the toxic latents.
        controls: Steering by each draw of random latents.
        pairs: The validation texts, on which the strength of the noise is chosen.
        settings: Their ``methods`` say what is tested beside the best setting.
        seed: The seed of the noise.
    """
    steering, best = ours.steering, ours.best
    changes: Changes = {CHOSEN: [steering.steer(best)]}
    if "tiers" in settings.methods:
        for setting in ours.chosen:
            changes[setting.method] = changes[CHOSEN] if setting is best else [steering.steer(setting)]
    if ZERO in settings.methods:
        changes[ZERO] = [steering.zero()]
    if RANDOM_LATENTS in settings.methods:
        changes[RANDOM_LATENTS] = [control.steering.steer(control.best) for control in controls]
    if NOISE in settings.methods:
        sweep = steering.noise_sweep(best, settings.strengths, seed)
        [chosen] = choose(pairs.tried([sweep], "validation texts under noise"), settings)
        changes[NOISE] = [steering.noise(best, chosen.strength, seed)]
    return changes
