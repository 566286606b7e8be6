"""The settings of the task ``concept_separability``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from saebench.evaluation import Settings, Unique

Pooling = Literal["mean", "max", "last"]
EstimatorName = Literal["histogram", "kde"]


class ConceptSeparabilitySettings(Settings):
    """The settings of ``concept_separability``, with the defaults of the card."""

    datasets: Annotated[tuple[str, ...], Unique()] = Field(
        (
            "asset:sae-probes/97_news_class",
            "asset:sae-probes/102_twt_emotion",
            "asset:sae-probes/103_it_tick",
            "asset:sae-probes/88_glue_mnli",
            "words:asset:sae-probes/97_news_class",
        ),
        min_length=1,
    )
    examples: int = Field(200, ge=10)
    context_length: int = Field(64, ge=2)
    pooling: Pooling = "mean"
    estimator: EstimatorName = "histogram"
    bins: int = Field(16, ge=1)
    permutations: int = Field(999, ge=20)
