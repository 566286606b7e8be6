"""The settings of the task ``unlearning``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from saebench.evaluation import Ascending, Settings, Unique

LatentMethod = Literal["clamp", "conditional", "dsg"]  # the methods among which the headline is chosen
Method = Literal[LatentMethod, "diffmean", "ablation", "rmu", "sspu"]
SelectionRule = Literal["mean_difference", "sparsity_ratio", "squared_mean_ratio"]
StrengthUnit = Literal["mean", "absolute"]
Strengths = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Ascending()]

# A strength of 0 takes the latents out.
ClampStrengths = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Ascending()]

LATENT_METHODS: tuple[LatentMethod, ...] = get_args(LatentMethod)


class UnlearningSettings(Settings):
    """The settings of ``unlearning``, with the defaults of the card."""

    forget_text: str = "asset:sae-probes/101_disease_class"
    retain_texts: Annotated[tuple[str, ...], Unique()] = Field(
        ("asset:sae-probes/97_news_class", "asset:sae-probes/111_yelp_data"), min_length=1
    )
    forget_questions: str = "sciq:life"
    retain_questions: str = "sciq:other"
    methods: tuple[Method, ...] = ("clamp", "conditional", "dsg", "diffmean", "ablation", "rmu", "sspu")
    context_length: int = Field(128, ge=3)
    predictions: int = Field(32, ge=1)
    fit_documents: int = Field(300, ge=2)
    validation_documents: int = Field(90, ge=2)
    test_documents: int = Field(180, ge=2)
    questions: int = Field(300, ge=2)
    question_length: int = Field(256, ge=8)
    latents: tuple[Annotated[int, Field(ge=1)], ...] = Field((10, 20, 50), min_length=1)
    clamp_selections: tuple[SelectionRule, ...] = Field(("mean_difference", "sparsity_ratio"), min_length=1)
    dsg_selections: tuple[SelectionRule, ...] = Field(("mean_difference", "squared_mean_ratio"), min_length=1)
    retain_threshold: float = Field(0.01, ge=0.0)
    ratio_percentile: float = Field(95.0, ge=0.0, le=100.0)
    gate_percentile: float = Field(95.0, ge=0.0, le=100.0)
    condition: float = Field(0.5, ge=0.0)
    strength_unit: StrengthUnit = "mean"
    strengths: ClampStrengths = Field((0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), min_length=1)
    direction_strengths: Strengths = Field((0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0), min_length=1)
    ablation_strengths: Strengths = Field((0.5, 1.0, 2.0), min_length=1)
    weight_strengths: Strengths = Field((0.25, 0.5, 0.75, 1.0), min_length=1)
    fine_tune_steps: int = Field(40, ge=0)
    sspu_latents: int = Field(50, ge=1)
    sspu_penalty: float = Field(1000.0, ge=0.0)
    generation_documents: int = Field(32, ge=0)
    new_tokens: int = Field(32, ge=8)
    topic_ratio: float = Field(4.0, ge=1.0)
    control_draws: int = Field(5, ge=1)
    saebench_score: bool = True
    bootstrap_replicates: int = Field(2000, ge=100)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if not set(self.methods) & set(LATENT_METHODS):
            raise ValueError(f"methods must name at least one of {', '.join(LATENT_METHODS)}.")
        if self.forget_text in self.retain_texts:
            raise ValueError(
                f"{self.forget_text!r} is both the forget_text and one of the retain_texts; give two different texts."
            )
        fewest = min(self.fit_documents, self.validation_documents, self.test_documents)
        if fewest < len(self.retain_texts):
            raise ValueError(
                f"fit_documents, validation_documents and test_documents must each be at least "
                f"{len(self.retain_texts)}, the number of retain_texts, so that every text gives a document."
            )
        return self
