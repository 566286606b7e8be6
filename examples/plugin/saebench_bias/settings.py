"""The settings of the task ``reconstruction_bias``, which a user may choose. Its card says what they mean."""

from pydantic import Field

from saebench.evaluation import SampledSettings


class BiasSettings(SampledSettings):
    """The settings of ``reconstruction_bias``, with the defaults of the card."""

    text: str = "asset:sae-probes/97_news_class"
    context_length: int = Field(128, ge=2)
    sequences: int = Field(64, ge=2)
    bootstrap_replicates: int = Field(2000, ge=100)
