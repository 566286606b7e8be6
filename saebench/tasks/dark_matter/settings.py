"""What a user may choose about the task ``dark_matter``; its card says what each setting means."""

from __future__ import annotations

from pydantic import Field

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
