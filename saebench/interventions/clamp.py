"""Interventions that set latents to a value: everywhere, where they fire, or where they exceed a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from saebench.errors import UsageError
from saebench.interventions.base import finite, per_latent
from saebench.interventions.edit import LatentEdit, fires
from saebench.interventions.latents import Latents
from saebench.interventions.places import Places


class Clamp(LatentEdit):
    """A clamp: f'_j = value_j where |f_j| > threshold, or at every token if the threshold is None.

    The threshold 0 gives the clamp of SAEBench's unlearning and of arXiv 2410.19278, where the value is -25 to -200. A
    threshold above 0 gives the conditional clamp of arXiv 2503.11127.
    """

    kind: ClassVar[str] = "clamp"

    def __init__(self, latents: Latents, value: float | Sequence[float], *, threshold: float | None = 0.0) -> None:
        """Build the intervention.

        Args:
            latents: The latents to set.
            value: One value for all latents, or one for each of them.
            threshold: The absolute activation above which a latent is set, or None to set it everywhere.

        Raises:
            UsageError: The threshold is negative, or there is another number of values than latents.
        """
        super().__init__(latents)
        self.value = per_latent("value", value, len(latents))
        self.threshold = None if threshold is None else _not_negative(threshold)

    @classmethod
    def multiple(
        cls,
        latents: Latents,
        factor: float,
        reference: float | Sequence[float],
        *,
        threshold: float | None = 0.0,
    ) -> Clamp:
        """Build a clamp to a multiple of a reference activation of each latent.

        Args:
            latents: The latents to set.
            factor: The factor of the reference.
            reference: The reference of each latent, such as its mean or maximum where it fires.
            threshold: The absolute activation above which a latent is set, or None to set it everywhere.

        Raises:
            NotApplicableError: The latents are signed.
            UsageError: As in the constructor.
        """
        latents.require_sizes("A clamp to a multiple of an activation")
        values = [finite("factor", factor) * size for size in per_latent("reference", reference, len(latents))]
        return cls(latents, values, threshold=threshold)

    def change(self, f: Tensor, places: Places) -> Tensor:
        change = f.new_tensor(self.value) - f
        return change if self.threshold is None else torch.where(fires(f, self.threshold), change, 0.0)

    def settings(self) -> dict[str, Any]:
        return {"value": self.value, "threshold": self.threshold}


def zero(latents: Latents) -> Clamp:
    """Return the zero ablation f'_j = 0, which is the full mask of arXiv 2502.06809."""
    return Clamp(latents, 0.0, threshold=None)


class RefusalClamp(LatentEdit):
    """The refusal clamp of arXiv 2503.11127: f'_r = value where any of some latents exceeds the threshold.

    These latents themselves do not change; to change them too, compose it with a `Clamp`.
    """

    kind: ClassVar[str] = "refusal"

    def __init__(self, latents: Latents, refusal: int, value: float, *, threshold: float = 0.0) -> None:
        """Build the intervention.

        Args:
            latents: The latents that trigger it.
            refusal: The number r of the latent that is set.
            value: The value that it is set to.
            threshold: The absolute activation above which a latent triggers it.

        Raises:
            UsageError: ``refusal`` is one of ``latents``, or the threshold is negative.
        """
        if refusal in latents.indices:
            raise UsageError(f"Latent {refusal} cannot be both the refusal latent and one of those that trigger it.")
        super().__init__(latents.also(refusal))
        self.refusal, self.value, self.threshold = refusal, finite("value", value), _not_negative(threshold)

    def change(self, f: Tensor, places: Places) -> Tensor:
        change = torch.zeros_like(f)
        any_fires = fires(f[:, :-1], self.threshold).any(-1)
        change[:, -1] = torch.where(any_fires, self.value - f[:, -1], 0.0)
        return change

    def settings(self) -> dict[str, Any]:
        return {
            "latents": self.latents.indices[:-1],
            "refusal": self.refusal,
            "value": self.value,
            "threshold": self.threshold,
        }


def _not_negative(threshold: float) -> float:
    if finite("threshold", threshold) < 0:
        raise UsageError(f"threshold must be at least 0, not {threshold}, because latents fire where |f| exceeds it.")
    return float(threshold)
