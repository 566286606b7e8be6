"""The settings of the task ``dark_matter``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from saebench.evaluation import SampledSettings


class DarkMatterSettings(SampledSettings):
    """The settings of ``dark_matter``, with the defaults of the card."""

    text: str = "asset:sae-probes/97_news_class"
    context_length: int = Field(128, ge=3)
    sequences: int = Field(128, ge=2)
    loss_sequences: int = Field(32, ge=2)
    tokens_per_dimension: int = Field(30, ge=30)
    skip_positions: int = Field(0, ge=0)
    random_direction_control: bool = True
    bootstrap_replicates: int = Field(2000, ge=100)

    @model_validator(mode="after")
    def _positions_are_left(self) -> Self:
        if self.skip_positions >= self.context_length - 1:
            raise ValueError(
                f"skip_positions={self.skip_positions} leaves fewer than two positions of "
                f"context_length={self.context_length}; use a longer context."
            )
        return self
