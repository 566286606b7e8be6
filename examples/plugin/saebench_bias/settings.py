"""What a user may choose about the task ``reconstruction_bias``; its card says what each setting means."""

from pydantic import Field

from saebench.evaluation import SampledSettings


class BiasSettings(SampledSettings):
    """The settings of ``reconstruction_bias``, with the defaults of the card."""

    text: str = "asset:sae-probes/97_news_class"
    context_length: int = Field(128, ge=2)
    sequences: int = Field(64, ge=2)
    bootstrap_replicates: int = Field(2000, ge=100)
