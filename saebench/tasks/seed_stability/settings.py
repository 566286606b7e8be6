"""The settings of the task ``seed_stability``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from saebench.evaluation import SampledSettings, Unique


class SeedStabilitySettings(SampledSettings):
    """The settings of ``seed_stability``, with the defaults of the card."""

    text: str = "asset:sae-probes/97_news_class"
    context_length: int = Field(128, ge=2)
    sequences: int = Field(128, ge=2)
    threshold: float = Field(0.7, ge=-1.0)
    thresholds: Annotated[tuple[float, ...], Unique()] = (0.5, 0.6, 0.7, 0.8, 0.9)
    stable_from: float = Field(0.75, ge=0.0, le=1.0)
    unstable_to: float = Field(0.25, ge=0.0, le=1.0)
    shared_above: float = Field(0.7, ge=-1.0)
    absolute: bool = False
    centred: bool = False
    exact_matching_limit: int = Field(16384, ge=1)
    at_init: tuple[str, ...] = ()
    energy: float = Field(0.9, ge=0.0, le=1.0)
    subspace_draws: int = Field(10, ge=1)
    cluster_size: int = Field(16, ge=3)
    control_draws: int = Field(10, ge=1)
    loss_sequences: int = Field(32, ge=2)
    loss_members: int = Field(1, ge=0)
    loss_draws: int = Field(1, ge=1)
    loss_keep: bool = False
    surface_firings: int = Field(10, ge=2)
    bootstrap_replicates: int = Field(2000, ge=100)

    @model_validator(mode="after")
    def _kinds_are_disjoint(self) -> Self:
        if self.unstable_to >= self.stable_from:
            raise ValueError(
                f"unstable_to ({self.unstable_to:g}) must be below stable_from ({self.stable_from:g}), or a latent "
                "could be stable and unstable at once."
            )
        return self
