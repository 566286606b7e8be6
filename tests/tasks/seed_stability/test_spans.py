"""Subspaces and clusters of unstable rows, where it is known whether they recur."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saebench.evaluation import TaskOutput
from saebench.stats.rng import generator
from saebench.tasks.seed_stability.report.spans import report_clusters, report_subspaces
from saebench.tasks.seed_stability.scoring.clusters import cluster_recurrence
from saebench.tasks.seed_stability.scoring.subspaces import unstable_subspaces
from saebench.tasks.seed_stability.settings import SeedStabilitySettings
from tests.tasks.seed_stability.reports import empty_report

D = 96


def normal(*shape: int, seed: int) -> Tensor:
    return torch.from_numpy(generator(seed, "x").standard_normal(shape)).float()


def rng(*drawn: Any) -> np.random.Generator:
    return generator(0, *drawn)


def fingerprints(runs: list[Tensor]) -> list[str]:
    return [f"run {run}" for run in range(len(runs))]


def within(basis: Tensor, n: int, seed: int) -> Tensor:
    """Random directions inside the span of ``basis[k, d]``."""
    return normal(n, len(basis), seed=seed) @ basis


def values(output: TaskOutput) -> dict[tuple[str, str], float]:
    return {(m.metric, m.subset): np.nan if m.value is None else m.value for m in output.measurements}


def settings(**changes: float) -> SeedStabilitySettings:
    return SeedStabilitySettings.parse(changes, task="seed_stability")


def measure_subspaces(unstable: list[Tensor], stable: list[Tensor], energy: float = 0.9, draws: int = 6) -> TaskOutput:
    report = empty_report()
    chosen = settings(energy=energy, subspace_draws=draws)
    report_subspaces(report, unstable_subspaces(unstable, stable, fingerprints(unstable), rng, chosen))
    return report.output()


def spans(unstable: list[Tensor], stable: list[Tensor], energy: float = 0.9) -> dict[tuple[str, str], float]:
    return values(measure_subspaces(unstable, stable, energy))


def test_unstable_rows_of_one_small_subspace_are_recognised() -> None:
    basis = torch.linalg.qr(normal(D, 8, seed=1)).Q.T
    unstable = [within(basis, 60, 10 + run) for run in range(3)]
    stable = [normal(60, D, seed=20 + run) for run in range(3)]
    whole, found = spans(unstable, stable, energy=0.999), spans(unstable, stable)
    for metric in ("subspace_overlap", "cross_explained"):
        assert whole[metric, ""] == pytest.approx(1, abs=1e-5)
        assert whole[f"{metric}_normalised", "null:isotropic"] == pytest.approx(1, abs=1e-5)
    # At 0.9 each run leaves one of the eight dimensions out, and not the same one.
    assert found["effective_rank", "unstable"] == pytest.approx(8, abs=0.5)
    assert found["subspace_rank", "unstable"] == 7
    assert found["subspace_overlap", ""] == pytest.approx(7 / 8, abs=0.05)
    assert found["subspace_overlap_normalised", "null:stable"] > 0.7
    assert found["effective_rank_ratio", ""] < 0.3


def test_rows_without_any_structure_lie_at_both_nulls() -> None:
    unstable, stable = ([normal(40, D, seed=s + run) for run in range(3)] for s in (10, 20))
    found = spans(unstable, stable)
    assert found["effective_rank_ratio", ""] == pytest.approx(1, abs=0.03)
    for metric in ("subspace_overlap", "cross_explained"):
        assert found[metric, ""] == pytest.approx(found[metric, "null:isotropic"], abs=0.03)
        assert found[f"{metric}_normalised", "null:stable"] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("few", "many"), [(20, 70), (70, 20)])
def test_sets_of_unequal_size_are_compared_at_equal_size(few: int, many: int) -> None:
    """Structureless rows of both kinds have equal ranks, however many there are of each."""
    found = spans([normal(few, D, seed=run) for run in range(2)], [normal(many, D, seed=9 + run) for run in range(2)])
    assert found["effective_rank", "stable"] <= 20
    assert found["effective_rank_ratio", ""] == pytest.approx(1, abs=0.05)


def test_runs_without_enough_rows_are_left_out_and_counted() -> None:
    unstable = [normal(10, D, seed=0), normal(1, D, seed=1), normal(0, D, seed=2)]
    output = measure_subspaces(unstable, [normal(10, D, seed=5)] * 3, draws=2)
    found = {(m.metric, m.subset): m for m in output.measurements}
    assert found["effective_rank", "unstable"].n == 1
    assert found["subspace_overlap", ""].value is None
    assert found["subspace_overlap", ""].not_scored
    missing = sum(m.value is None for m in output.measurements)
    assert output.counts == {"subspace_rows": 10, "unstable_rows": 11, "not_scored": missing}
    nothing = measure_subspaces([normal(0, D, seed=0)] * 2, [normal(0, D, seed=0)] * 2, draws=2)
    assert all(m.value is None for m in nothing.measurements)


def clusters(unstable: list[Tensor], stable: list[Tensor]) -> tuple[dict[tuple[str, str], float], dict[str, int]]:
    report, chosen = empty_report(), settings(cluster_size=8)
    report_clusters(report, cluster_recurrence(unstable, stable, fingerprints(unstable), rng, chosen), chosen)
    output = report.output()
    return values(output), output.counts


def test_clusters_recur_where_the_whole_spans_everything() -> None:
    """30 planes lie all over 24 dimensions, and every run has other directions inside them."""
    planes = [torch.linalg.qr(normal(24, 2, seed=100 + g)).Q.T for g in range(30)]
    unstable = [torch.cat([_arc(plane, 8, 1000 * run + g) for g, plane in enumerate(planes)]) for run in range(3)]
    found, counts = clusters(unstable, [normal(240, 24, seed=run) for run in range(3)])
    assert spans(unstable, unstable)["subspace_overlap", "null:isotropic"] > 0.6
    assert found["cluster_overlap", ""] > 0.9
    assert found["cluster_overlap_normalised", "null:isotropic"] > 0.7
    assert found["cluster_cross_explained_normalised", "null:covariance"] > 0.4
    assert found["cluster_overlap", "stable"] < found["cluster_overlap", ""] - 0.2
    assert counts["clustered_rows"] <= 3 * 240


def _arc(plane: Tensor, n: int, seed: int) -> Tensor:
    """Directions of a plane less than a right angle from each other, so that k-means can put them together."""
    angle = torch.from_numpy(generator(seed, "arc").uniform(0, 1.2, n)).float()[:, None]
    return angle.cos() * plane[0] + angle.sin() * plane[1]


def test_clusters_of_noise_lie_at_their_nulls() -> None:
    noise = [normal(160, 32, seed=run) for run in range(6)]
    found, _ = clusters(noise[:3], noise[3:])
    for metric in ("cluster_overlap", "cluster_cross_explained"):
        for null in ("isotropic", "covariance"):
            assert found[f"{metric}_normalised", f"null:{null}"] == pytest.approx(0, abs=0.05)
        assert found[metric, "stable"] == pytest.approx(found[metric, ""], abs=0.05)


def test_too_few_rows_for_clusters_are_said() -> None:
    found, counts = clusters([normal(15, D, seed=0)] * 3, [normal(200, D, seed=0)] * 3)
    assert np.isnan(found["cluster_overlap", ""])
    assert np.isnan(found["cluster_overlap_normalised", "null:isotropic"])
    assert (counts["clusters"], counts["clustered_rows"]) == (0, 0)
