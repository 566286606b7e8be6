"""The test for subspaces in small: where all unstable rows together span everything, do single clusters of them recur?

Saebench's own operationalisation: the unstable rows of a run are clustered by k-means. For a cluster of g rows, whose
subspace is B, the g rows of another run that lie most inside B are picked, and their subspace is compared with B. The
picking favours overlap whatever the rows are, so the nulls go through it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import normalize

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.stats.runs import over_runs
from saebench.stats.subspaces import above, explained_energy, overlap, subspace
from saebench.tasks.seed_stability.geometry import NULLS

Rng = Callable[[str], np.random.Generator]
MOST = 4096  # rows of a run that are clustered; of more, random ones
_ITERATIONS = 30
FEWEST = 3  # rows of a cluster: two directions are a plane, but hardly a cluster


def report_clusters(
    output: TaskOutput,
    unstable: Sequence[Tensor],
    stable: Sequence[Tensor],
    rng: Rng,
    cluster_size: int,
    energy: float,
) -> None:
    """Local overlap and cross-explained energy of ``unstable[run][n, d]``, beside nulls and the same among stable rows.

    Runs with fewer than ``2 * cluster_size`` unstable rows are left out. ``stable`` gives sets of as many stable rows
    (fewer where there are not as many).
    """
    runs = [run for run, rows in enumerate(unstable) if len(rows) >= 2 * cluster_size]
    rows = {run: _some(normalize(unstable[run].float(), dim=-1), MOST, rng(f"clustered:{run}")) for run in runs}
    subspaces = {run: _clusters(rows[run], cluster_size, energy, rng(f"k-means:{run}")) for run in runs}
    others = {"": rows}
    for null, draw in NULLS.items():
        drawn = {run: normalize(draw(rows[run], rng(f"clusters:{null}:{run}")), dim=-1) for run in runs}
        others[f"null:{null}"] = drawn
    reason = f"fewer than two runs have {2 * cluster_size} unstable latents"
    _compare(output, subspaces, others, energy, reason, "")
    firm = {run: _some(normalize(stable[run].float(), dim=-1), len(rows[run]), rng(f"firm:{run}")) for run in runs}
    firm = {run: each for run, each in firm.items() if len(each) >= 2 * cluster_size}
    among = {run: _clusters(each, cluster_size, energy, rng(f"k-means stable:{run}")) for run, each in firm.items()}
    _compare(output, among, {"": firm}, energy, f"fewer than two runs have {2 * cluster_size} stable latents", "stable")
    sizes = [len(each) for found in subspaces.values() for each, _ in found]
    output.counts |= {"clusters": len(sizes), "clustered_rows": sum(sizes)}


Clusters = list[tuple[Tensor, Tensor]]  # rows [g, d] and orthonormal basis [d, k]


def _compare(
    output: TaskOutput,
    clusters: dict[int, Clusters],
    others: dict[str, dict[int, Tensor]],
    energy: float,
    reason: str,
    label: str,
) -> None:
    pairs = list(permutations(clusters, 2))
    found = {
        name: {(a, b): _recurrence(clusters[a], rows[b], energy) for a, b in pairs} for name, rows in others.items()
    }
    for part, metric in enumerate(("cluster_overlap", "cluster_cross_explained")):
        for name, values in found.items():
            estimate = over_runs({pair: (each[part], 1.0) for pair, each in values.items()})
            add(output, metric, estimate, "run", reason, label or name)
        for name in [null for null in found if null]:
            gap = {pair: (above(found[""][pair][part], found[name][pair][part]), 1.0) for pair in pairs}
            add(output, f"{metric}_normalised", over_runs(gap), "run", reason, name)


def _recurrence(clusters: Clusters, other: Tensor, energy: float) -> tuple[float, float]:
    """Overlap with, and energy explained by, the rows of another run that lie most inside each cluster's subspace.

    Means over clusters, weighted by their rows.
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


def _clusters(rows: Tensor, cluster_size: int, energy: float, rng: np.random.Generator) -> Clusters:
    """Clusters of about ``cluster_size`` rows each, and their subspaces; those of very few rows are left out."""
    seed = int(rng.integers(2**31))
    k_means = KMeans(max(2, len(rows) // cluster_size), n_init=1, max_iter=_ITERATIONS, random_state=seed)
    labels = torch.from_numpy(k_means.fit_predict(rows.cpu().numpy())).to(rows.device)
    members = [rows[labels == label] for label in range(k_means.n_clusters)]
    return [(each, subspace(each, energy).basis) for each in members if len(each) >= FEWEST]


def _some(rows: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    if len(rows) <= n:
        return rows
    return rows[torch.from_numpy(rng.choice(len(rows), n, replace=False)).to(rows.device)]
