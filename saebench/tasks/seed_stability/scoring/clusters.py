"""Whether small clusters of unstable latents recur, which can be seen even where all of them together span everything.

This is saebench's own operationalisation. The unstable rows of a run are clustered by k-means. For a cluster of g rows,
whose subspace is B, the g rows of another run that lie most inside B are picked, and their subspace is compared with B.
Picking favours overlap whatever the rows are, so it is done for the nulls as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from saebench.stats.subspaces import explained_energy, overlap, subspace
from saebench.tasks.seed_stability.scoring.geometry import NULLS, Rng
from saebench.tasks.seed_stability.scoring.subspaces import Recurrence
from saebench.tasks.seed_stability.settings import SeedStabilitySettings

_MOST_ROWS = 4096  # rows of a run that are clustered; where there are more, random ones are taken
_ITERATIONS = 30
_FEWEST_ROWS = 3  # of a cluster: two directions always lie in a plane

Clusters = list[tuple[Tensor, Tensor]]  # rows [g, d] and orthonormal basis [d, k] of each cluster
ByRun = dict[int, Tensor]  # rows [n, d] at length one


@dataclass(frozen=True)
class ClusterRecurrence:
    """How much of the clusters of one run is found again in another."""

    unstable: list[Recurrence]
    stable: list[Recurrence]  # the same among as many stable rows, without nulls
    clusters: int  # of unstable rows, over all runs
    rows: int  # rows in these clusters


def cluster_recurrence(
    unstable: Sequence[Tensor],
    stable: Sequence[Tensor],
    fingerprints: Sequence[str],
    rng: Rng,
    settings: SeedStabilitySettings,
) -> ClusterRecurrence:
    """Cluster the unstable rows of each run, and look for each cluster in every other run.

    Runs with fewer than ``2 * cluster_size`` rows of a kind are left out.

    Args:
        unstable: The decoder rows of the unstable latents of each run, ``[n, d]``; their length does not matter.
        stable: Those of the stable latents. As many are taken as there are unstable ones, or all where there are fewer.
        fingerprints: The fingerprint of each run's SAE.
        rng: Gives the random generators.
        settings: The size of a cluster, and the share of the energy that a subspace holds.
    """
    runs = [run for run, rows in enumerate(unstable) if len(rows) >= 2 * settings.cluster_size]

    def drawn(purpose: str, run: int) -> np.random.Generator:
        return rng(f"seed_stability:clusters:{purpose}", fingerprints[run])

    rows = {run: _some(_unit(unstable[run]), _MOST_ROWS, drawn("unstable rows", run)) for run in runs}
    clusters = {run: _clusters(rows[run], drawn("k-means of unstable rows", run), settings) for run in runs}
    nulls = {
        f"null:{null}": {run: _unit(draw(rows[run], drawn(null, run))) for run in runs} for null, draw in NULLS.items()
    }
    stable_rows = {run: _some(_unit(stable[run]), len(rows[run]), drawn("stable rows", run)) for run in runs}
    stable_rows = {run: some for run, some in stable_rows.items() if len(some) >= 2 * settings.cluster_size}
    stable_clusters = {
        run: _clusters(some, drawn("k-means of stable rows", run), settings) for run, some in stable_rows.items()
    }
    sizes = [len(members) for of_run in clusters.values() for members, _ in of_run]
    return ClusterRecurrence(
        _recurrences(clusters, rows, nulls, settings),
        _recurrences(stable_clusters, stable_rows, {}, settings),
        len(sizes),
        sum(sizes),
    )


def _recurrences(
    clusters: dict[int, Clusters], rows: ByRun, nulls: dict[str, ByRun], settings: SeedStabilitySettings
) -> list[Recurrence]:
    """Overlap and explained energy of the clusters of each run in the rows of each other run, and in the nulls'."""
    by_name = {
        name: {(a, b): _found_again(clusters[a], others[b], settings.energy) for a, b in permutations(clusters, 2)}
        for name, others in {"": rows, **nulls}.items()
    }
    recurrences = []
    for position, metric in enumerate(("cluster_overlap", "cluster_cross_explained")):
        values = {name: {pair: both[position] for pair, both in by_pair.items()} for name, by_pair in by_name.items()}
        recurrences.append(Recurrence(metric, values.pop(""), values))
    return recurrences


def _found_again(clusters: Clusters, other: Tensor, energy: float) -> tuple[float, float]:
    """Overlap with, and energy explained by, the rows of ``other`` that lie most inside each cluster's subspace.

    Both are means over clusters, weighted by their numbers of rows.
    """
    if not clusters:
        return float("nan"), float("nan")
    values = []
    products = other @ torch.cat([basis for _, basis in clusters], dim=1).to(other.dtype)
    parts = products.square_().split([basis.shape[1] for _, basis in clusters], dim=1)
    for (rows, basis), part in zip(clusters, parts, strict=True):
        picked = subspace(other[part.sum(1).topk(min(len(rows), len(other))).indices], energy).basis
        values.append((overlap(basis, picked), explained_energy(rows, picked), len(rows)))
    table = np.array(values)
    return float(np.average(table[:, 0], weights=table[:, 2])), float(np.average(table[:, 1], weights=table[:, 2]))


def _clusters(rows: Tensor, rng: np.random.Generator, settings: SeedStabilitySettings) -> Clusters:
    """Clusters of about ``cluster_size`` rows each, and their subspaces; clusters of very few rows are left out."""
    number = max(2, len(rows) // settings.cluster_size)
    k_means = KMeans(number, n_init=1, max_iter=_ITERATIONS, random_state=int(rng.integers(2**31)))
    labels = torch.from_numpy(k_means.fit_predict(rows.cpu().numpy())).to(rows.device)
    members = [rows[labels == label] for label in range(number)]
    return [(own, subspace(own, settings.energy).basis) for own in members if len(own) >= _FEWEST_ROWS]


def _some(rows: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """At most ``n`` of the rows, drawn at random where there are more."""
    if len(rows) <= n:
        return rows
    return rows[torch.from_numpy(rng.choice(len(rows), n, replace=False)).to(rows.device)]


def _unit(rows: Tensor) -> Tensor:
    return normalize(rows.float(), dim=-1)
