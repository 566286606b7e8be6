"""The settings of the task ``joint_splice``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from pydantic import Field

from saebench.evaluation import SampledSettings


class JointSpliceSettings(SampledSettings):
    """The settings of ``joint_splice``, with the defaults of the card."""

    text: str = "asset:sae-probes/97_news_class"
    context_length: int = Field(128, ge=2)
    sequences: int = Field(128, ge=2)
    bootstrap_replicates: int = Field(2000, ge=100)
