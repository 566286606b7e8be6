"""What a user may choose about the task ``concept_separability``; its card says what each setting means."""

from __future__ import annotations

from pydantic import Field

from saebench.evaluation import Settings


class ConceptSeparabilitySettings(Settings):
    """The settings of ``concept_separability``, with the defaults of the card."""

    datasets: tuple[str, ...] = (
        "asset:sae-probes/97_news_class",
        "asset:sae-probes/102_twt_emotion",
        "asset:sae-probes/103_it_tick",
        "asset:sae-probes/88_glue_mnli",
        "words:asset:sae-probes/97_news_class",
    )
    examples: int = Field(200, ge=10)
    context_length: int = Field(64, ge=2)
    pooling: str = "mean"
    estimator: str = "histogram"
    bins: int = Field(16, ge=1)
    permutations: int = Field(999, ge=20)
