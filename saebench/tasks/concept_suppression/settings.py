"""The settings of the task ``concept_suppression``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from saebench.evaluation import Ascending, Settings, Unique

SuppressionMethod = Literal["app", "zero", "range", "partial"]
LatentScore = Literal["separability", "saliency"]


class ConceptSuppressionSettings(Settings):
    """The settings of ``concept_suppression``, with the defaults of the card."""

    datasets: Annotated[tuple[str, ...], Unique()] = Field(("asset:sae-probes/97_news_class",), min_length=1)
    fit_examples: int = Field(100, ge=2)
    validation_examples: int = Field(50, ge=1)
    test_examples: int = Field(100, ge=2)
    complement_share: float = Field(1.0, gt=0.0, le=1.0)
    context_length: int = Field(64, ge=2)
    methods: Annotated[tuple[SuppressionMethod, ...], Unique()] = Field(
        ("app", "zero", "range", "partial"), min_length=1
    )
    latents: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Ascending()] = Field((1, 5, 10, 50, 100), min_length=1)
    selection: LatentScore = "separability"
    partial_factor: float = 0.5
    range_tau: float = Field(2.0, ge=0.0)
    ablation_strengths: Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Ascending()] = Field(
        (0.25, 0.5, 1.0), min_length=1
    )
    max_complement_drop: float = Field(0.05, ge=0.0)
    max_perplexity_ratio: float = Field(1.05, ge=1.0)
    control_draws: int = Field(5, ge=1)
    equal_drop: float = Field(0.25, ge=0.01)
    perplexity_text: str = "asset:sae-probes/45_context_ans"
    perplexity_context_length: int = Field(128, ge=3)
    validation_sequences: int = Field(32, ge=2)
    test_sequences: int = Field(64, ge=2)
    perplexity_predictions: int = Field(64, ge=1)
    bootstrap_replicates: int = Field(2000, ge=100)
