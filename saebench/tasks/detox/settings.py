"""What a user may choose about the task ``detox``; its card says what each setting means."""

from __future__ import annotations

from pydantic import Field

from saebench.evaluation import SampledSettings


class DetoxSettings(SampledSettings):
    """The settings of ``detox``, with the defaults of the card."""

    toxic: tuple[str, ...] = (
        "asset:sae-probes/95_toxic_is=1",
        "asset:sae-probes/106_hate_hate=1",
        "asset:sae-probes/107_hate_offensive=1",
    )
    neutral: tuple[str, ...] = (
        "asset:sae-probes/95_toxic_is=0",
        "asset:sae-probes/107_hate_offensive=0",
        "asset:sae-probes/107_hate_offensive=0",
    )
    text: str = "asset:sae-probes/97_news_class"
    context_length: int = Field(64, ge=4)
    fit_texts: int = Field(256, ge=2)
    heldout_texts: int = Field(96, ge=2)
    pooling: str = "max"
    latents: tuple[int, ...] = (1, 4, 16)
    min_auroc: float = Field(0.6, ge=0.5)
    prompts: str = ""
    prompt_tokens: int = Field(12, ge=1)
    prompt_toxicity: float = Field(0.5, ge=0.0)
    validation_prompts: int = Field(32, ge=2)
    sweep_tokens: int = Field(16, ge=1)
    test_prompts: int = Field(96, ge=2)
    new_tokens: int = Field(20, ge=1)
    samples: int = Field(2, ge=0)
    temperature: float = 0.9
    top_p: float = 0.9
    tiers: tuple[str, ...] = ("constant", "input", "token")
    strengths: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    diffmean_strengths: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    methods: tuple[str, ...] = ("tiers", "zero", "random_latents", "noise", "diffmean")
    sweep_on_test: bool = False
    scorer: str = "profanity-check"
    fluency_lm: str = "asset:smollm2-135m"
    max_perplexity_ratio: float = Field(1.2, ge=1.0)
    max_broken_increase: float = Field(0.1, ge=0.0)
    frontier_perplexity_ratio: float = Field(2.0, ge=1.01)
    sequences: int = Field(32, ge=2)
    predictions: int = Field(16, ge=0)
    utility_tasks: tuple[str, ...] = ("saebench_sst2",)
    utility_limit: int = Field(100, ge=0)
    bootstrap_replicates: int = Field(2000, ge=100)
