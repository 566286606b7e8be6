"""The settings of the task ``language_steering``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from saebench.evaluation import Ascending, Settings

LatentMethod = Literal["langfir", "nu", "lape"]  # a way to find the latents of a language
LATENT_METHODS: tuple[LatentMethod, ...] = get_args(LatentMethod)
FrameName = Literal["line", "half", "copy", "mixed", "quotes"]

_Strengths = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Ascending()]


class LanguageSteeringSettings(Settings):
    """The settings of ``language_steering``, with the defaults of the card."""

    parallel: str = "builtin:everyday"
    languages: tuple[str, ...] = ()
    source: str = "en"
    train_sentences: int = Field(100, ge=2)
    random_sequences: int = Field(100, ge=2)
    consistency: float = Field(0.9, ge=0)
    random_rate: float = Field(0.1, ge=0)
    nu_latents: int = Field(2, ge=1)
    most_latents: int = Field(5, ge=1)
    methods: tuple[LatentMethod, ...] = Field(("langfir", "nu"), min_length=1)
    strengths: _Strengths = Field((0.25, 0.5, 1.0, 2.0, 4.0), min_length=1)
    diffmean_strengths: _Strengths = Field((0.5, 1.0, 2.0), min_length=1)
    recover_strengths: _Strengths = (1.0,)
    recover_sentences: int = Field(100, ge=1)
    frame: FrameName = "mixed"
    shots: int = Field(2, ge=0)
    identifier: Literal["py3langid", "lingua"] = "py3langid"
    validation_prompts: int = Field(16, ge=1)
    test_prompts: int = Field(32, ge=1)
    max_new_tokens: int = Field(32, ge=1)
    control_draws: int = Field(3, ge=1)
    ablation_sentences: int = Field(32, ge=2)
    ablation_predictions: int = Field(8, ge=1)
    ablation_centre: Literal["mean", "zero"] = "mean"
    context_length: int = Field(128, ge=3)
    bootstrap_replicates: int = Field(2000, ge=100)
