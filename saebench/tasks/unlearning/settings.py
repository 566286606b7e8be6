"""What a user may choose about the task ``unlearning``; its card says what each setting means."""

from __future__ import annotations

from pydantic import Field

from saebench.evaluation import Settings


class UnlearningSettings(Settings):
    """The settings of ``unlearning``, with the defaults of the card."""

    forget_text: str = "asset:sae-probes/101_disease_class"
    retain_texts: tuple[str, ...] = ("asset:sae-probes/97_news_class", "asset:sae-probes/111_yelp_data")
    forget_questions: str = "sciq:life"
    retain_questions: str = "sciq:other"
    methods: tuple[str, ...] = ("clamp", "conditional", "dsg", "diffmean", "ablation", "rmu", "sspu")
    context_length: int = Field(128, ge=3)
    predictions: int = Field(32, ge=1)
    fit_documents: int = Field(300, ge=2)
    validation_documents: int = Field(90, ge=2)
    test_documents: int = Field(180, ge=2)
    questions: int = Field(300, ge=2)
    question_length: int = Field(256, ge=8)
    latents: tuple[int, ...] = (10, 20, 50)
    clamp_selections: tuple[str, ...] = ("sparsity_ratio",)
    dsg_selections: tuple[str, ...] = ("squared_mean_ratio",)
    retain_threshold: float = Field(0.01, ge=0.0)
    ratio_percentile: float = Field(95.0, ge=0.0)
    gate_percentile: float = Field(95.0, ge=0.0)
    condition: float = Field(0.5, ge=0.0)
    strength_unit: str = "mean"
    strengths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    direction_strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    ablation_strengths: tuple[float, ...] = (0.5, 1.0, 2.0)
    weight_strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    fine_tune_steps: int = Field(40, ge=0)
    sspu_latents: int = Field(50, ge=1)
    sspu_penalty: float = Field(1000.0, ge=0.0)
    generation_documents: int = Field(32, ge=0)
    new_tokens: int = Field(32, ge=8)
    retain_budget: float = Field(0.05, ge=0.0)
    box_forget: float = Field(5.0, ge=0.001)
    box_retain: float = Field(0.5, ge=0.001)
    saebench_score: bool = True
    bootstrap_replicates: int = Field(2000, ge=100)
