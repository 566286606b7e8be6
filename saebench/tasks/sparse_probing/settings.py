"""What a user may choose about the task ``sparse_probing``; its card says what each setting means."""

from __future__ import annotations

from pydantic import Field

from saebench.evaluation import Settings


class SparseProbingSettings(Settings):
    """The settings of ``sparse_probing``, with the defaults of the card."""

    datasets: tuple[str, ...] = (
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
    )
    k: tuple[int, ...] = (1, 2, 5, 16, 64, 128)
    train_examples: int = Field(160, ge=20)
    test_examples: int = Field(128, ge=20)
    context_length: int = Field(64, ge=2)
    pooling: str = "last"
    ranking: str = "normalised"
    penalty: str = "l1"
    scaling: str = "rms"
    dense_scaling: str = "standard"
    baselines: tuple[str, ...] = ("pca", "knn", "mlp", "boosting")
    baseline_grid: str = "small"
    regimes: tuple[str, ...] = ()
    resamples: int = Field(5, ge=1)
    scarcity_sizes: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128, 256)
    imbalance_shares: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    noise_shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    bootstrap_replicates: int = Field(2000, ge=100)
