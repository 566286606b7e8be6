"""The settings of the task ``detox``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from saebench.evaluation import SampledSettings, Unique
from saebench.interventions.steer import Tier

Pooling = Literal["fires", "max", "mean"]  # how the activations of a latent over a text become one number
ScorerName = Literal["profanity-check", "detoxify:original", "detoxify:unbiased"]
Comparison = Literal["tiers", "zero", "random_latents", "noise", "diffmean"]  # tested beside the chosen setting

Strengths = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Unique()]


class DetoxSettings(SampledSettings):
    """The settings of ``detox``, with the defaults of the card."""

    toxic: tuple[str, ...] = Field(
        (
            "asset:sae-probes/95_toxic_is=1",
            "asset:sae-probes/106_hate_hate=1",
            "asset:sae-probes/107_hate_offensive=1",
        ),
        min_length=1,
    )
    neutral: tuple[str, ...] = Field(
        (
            "asset:sae-probes/95_toxic_is=0",
            "asset:sae-probes/107_hate_offensive=0",
            "asset:sae-probes/107_hate_offensive=0",
        ),
        min_length=1,
    )
    text: str = "asset:sae-probes/97_news_class"
    context_length: int = Field(64, ge=4)
    fit_texts: int = Field(256, ge=2)
    heldout_texts: int = Field(96, ge=2)
    pooling: Pooling = "mean"
    latents: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Unique()] = Field((1, 4, 16), min_length=1)
    min_auroc: float = Field(0.6, ge=0.5)
    prompts: str = ""
    prompt_tokens: int = Field(12, ge=1)
    prompt_toxicity: float = Field(0.5, ge=0.0)
    test_prompts: int = Field(96, ge=2)
    new_tokens: int = Field(20, ge=1)
    samples: int = Field(2, ge=0)
    temperature: float = Field(0.9, gt=0.0)
    top_p: float = Field(0.9, gt=0.0, le=1.0)
    tiers: Annotated[tuple[Tier, ...], Unique()] = Field(("constant", "input", "token"), min_length=1)
    strengths: Strengths = Field((1.0, 2.0, 4.0, 8.0, 16.0), min_length=1)
    diffmean_strengths: Strengths = Field((0.5, 1.0, 2.0, 4.0), min_length=1)
    control_draws: int = Field(5, ge=1)
    text_predictions: int = Field(8, ge=0)
    max_loss_rise: float = Field(0.1, gt=0.0)
    methods: tuple[Comparison, ...] = ("tiers", "zero", "random_latents", "noise", "diffmean")
    sweep_on_test: bool = False
    scorer: ScorerName = "profanity-check"
    fluency_lm: str = "asset:smollm2-135m"
    max_perplexity_ratio: float = Field(1.2, ge=1.0)
    max_broken_increase: float = Field(0.1, ge=0.0)
    frontier_perplexity_ratio: float = Field(2.0, ge=1.01)
    sequences: int = Field(32, ge=2)
    predictions: int = Field(16, ge=0)
    utility_tasks: tuple[str, ...] = ("saebench_sst2",)
    utility_limit: int = Field(100, ge=0)
    bootstrap_replicates: int = Field(2000, ge=100)

    @model_validator(mode="after")
    def _sources_in_pairs(self) -> Self:
        if len(self.toxic) != len(self.neutral):
            raise ValueError(
                f"'toxic' names {len(self.toxic)} sources and 'neutral' {len(self.neutral)}; each toxic source needs "
                "a neutral one at the same place in the list."
            )
        return self
