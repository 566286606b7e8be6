"""The settings of the task ``ground_truth``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from pydantic import Field

from saebench.evaluation import Settings


class GroundTruthSettings(Settings):
    """The settings of ``ground_truth``, with the defaults of the card."""

    blocks: int = Field(64, ge=2)
    recovered_cosine: float = Field(0.9, gt=0, le=1)
    chance_draws: int = Field(4, ge=1)
    bootstrap_replicates: int = Field(2000, ge=100)
