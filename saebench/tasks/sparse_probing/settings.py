"""The settings of the task ``sparse_probing``, which a user may choose. Its card says what they mean."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from saebench.evaluation import Settings, Unique
from saebench.stats.probes.logistic import Penalty
from saebench.stats.probes.search import Scaling
from saebench.stats.probes.selection import Ranking

Pooling = Literal["last", "mean"]
BaselineMethod = Literal["pca", "knn", "mlp", "boosting"]
GridSize = Literal["small", "full"]
Regime = Literal["scarcity", "imbalance", "noise", "ood"]


# The setting that lists the levels of a regime. The regime "ood" has one level only.
class SparseProbingSettings(Settings):
    """The settings of ``sparse_probing``, with the defaults of the card."""

    datasets: Annotated[tuple[str, ...], Unique()] = Field(
        (
            "5_hist_fig_ismale",
            "121_us_timezone_New_York",
            "125_world_country_Italy",
            "126_art_type_book",
            "87_glue_cola",
            "92_glue_sst2",
            "133_context_type_Causality",
            "105_click_bait",
            "23_headline_ischina",
            "54_cs_tf",
            "52_virtue_is",
            "26_headline_isfrontpage",
        ),
        min_length=1,
    )
    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 2, 5, 16, 64, 128), min_length=1)
    train_examples: int = Field(160, ge=20)
    test_examples: int = Field(128, ge=20)
    context_length: int = Field(64, ge=2)
    pooling: Pooling = "last"
    ranking: Ranking = "normalised"
    penalty: Penalty = "l1"
    scaling: Scaling = "rms"
    dense_scaling: Scaling = "standard"
    baselines: tuple[BaselineMethod, ...] = ("pca", "knn", "mlp", "boosting")
    baseline_grid: GridSize = "small"
    regimes: Annotated[tuple[Regime, ...], Unique()] = ()
    resamples: int = Field(5, ge=1)
    scarcity_sizes: tuple[Annotated[int, Field(ge=2)], ...] = (2, 4, 8, 16, 32, 64, 128, 256)
    imbalance_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    noise_shares: tuple[Annotated[float, Field(ge=0, le=0.5)], ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    bootstrap_replicates: int = Field(2000, ge=100)

    @model_validator(mode="after")
    def _regimes_have_levels(self) -> Self:
        levels = {
            "scarcity": ("scarcity_sizes", self.scarcity_sizes),
            "imbalance": ("imbalance_shares", self.imbalance_shares),
            "noise": ("noise_shares", self.noise_shares),
        }
        for regime in self.regimes:
            if regime in levels and not levels[regime][1]:
                raise ValueError(f"The regime {regime!r} needs a value in {levels[regime][0]!r}, which is empty.")
        return self
