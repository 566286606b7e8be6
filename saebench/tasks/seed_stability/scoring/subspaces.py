"""Whether the unstable latents of different runs span the same subspace, although no single one is found again.

After arXiv 2606.12138; the formulas are saebench's own. Every overlap is compared with two nulls: random subspaces of
the same ranks, and random sets of as many *stable* rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Tensor

from saebench.stats.runs import Pair
from saebench.stats.subspaces import Subspace, above, explained_energy, overlap, subspace
from saebench.tasks.seed_stability.scoring.geometry import Rng
from saebench.tasks.seed_stability.selection import KINDS, Kind
from saebench.tasks.seed_stability.settings import SeedStabilitySettings

_FEWEST_ROWS = 2  # with fewer there is no subspace to speak of

Drawn = list[tuple[Tensor, Subspace]]  # sets of rows of one run, and their subspaces
# From the rows and the subspace of one run and the subspace of another to a value, and to that of random subspaces.
Figure = Callable[[Tensor, Subspace, Subspace], tuple[float, float]]


@dataclass(frozen=True)
class Recurrence:
    """How much of what one run spans is spanned by another, by one metric: values of pairs of runs."""

    metric: str
    values: dict[Pair, float]
    nulls: dict[str, dict[Pair, float]]  # by the subset of the null: what the metric would be without any recurrence

    def above_null(self, null: str) -> dict[Pair, float]:
        """How far the values lie above those of a null: 0 at the null, 1 at the most there can be."""
        return {pair: above(value, self.nulls[null][pair]) for pair, value in self.values.items()}


@dataclass(frozen=True)
class UnstableSubspaces:
    """The subspaces of unstable rows, and of as many stable ones."""

    effective_rank: dict[Kind, dict[int, float]]  # by run
    rank: dict[Kind, dict[int, float]]  # by run
    recurrences: list[Recurrence]
    rows: int  # rows in a set that is compared, summed over runs
    unstable_rows: int  # all unstable rows, summed over runs


def unstable_subspaces(
    unstable: Sequence[Tensor],
    stable: Sequence[Tensor],
    fingerprints: Sequence[str],
    rng: Rng,
    settings: SeedStabilitySettings,
) -> UnstableSubspaces:
    """Compare the subspaces of unstable rows between runs.

    Sets are compared at equal size: of the kind with more rows, ``subspace_draws`` random sets are drawn that are as
    large as the smaller kind, and all figures are means over them. A run with fewer than two rows of a kind is left
    out.

    Args:
        unstable: The decoder rows of the unstable latents of each run, ``[n, d]``; their length does not matter.
        stable: Those of the stable latents.
        fingerprints: The fingerprint of each run's SAE.
        rng: Gives the random generators.
        settings: The number of draws, and the share of the energy that a subspace holds.
    """
    sizes = {run: min(len(unstable[run]), len(stable[run])) for run in range(len(unstable))}
    sizes = {run: size for run, size in sizes.items() if size >= _FEWEST_ROWS}
    sets: dict[Kind, dict[int, Drawn]] = {"unstable": {}, "stable": {}}
    for run, size in sizes.items():
        for kind in KINDS:
            rows = stable[run] if kind == "stable" else unstable[run]
            unit = torch.nn.functional.normalize(rows.double(), dim=-1)
            draw = rng(f"seed_stability:subsets:{kind}", fingerprints[run])
            drawn = _subsets(unit, size, draw, settings.subspace_draws)
            sets[kind][run] = [(subset, subspace(subset, settings.energy)) for subset in drawn]
    return UnstableSubspaces(
        {kind: _means(by_run, lambda space: space.effective_rank) for kind, by_run in sets.items()},
        {kind: _means(by_run, lambda space: space.rank) for kind, by_run in sets.items()},
        [
            _recurrence("subspace_overlap", sets, combinations(sizes, 2), _overlap),
            _recurrence("cross_explained", sets, permutations(sizes, 2), _explained),
        ],
        sum(sizes.values()),
        sum(map(len, unstable)),
    )


def _means(by_run: dict[int, Drawn], figure: Callable[[Subspace], float]) -> dict[int, float]:
    return {run: float(np.mean([figure(space) for _, space in drawn])) for run, drawn in by_run.items()}


def _recurrence(metric: str, sets: dict[Kind, dict[int, Drawn]], pairs: Iterable[Pair], figure: Figure) -> Recurrence:
    values: dict[Pair, float] = {}
    isotropic: dict[Pair, float] = {}
    among_stable: dict[Pair, float] = {}
    for a, b in pairs:
        values[a, b], isotropic[a, b] = _over_draws(sets["unstable"][a], sets["unstable"][b], figure)
        among_stable[a, b], _ = _over_draws(sets["stable"][a], sets["stable"][b], figure)
    return Recurrence(metric, values, {"null:isotropic": isotropic, "null:stable": among_stable})


def _over_draws(a: Drawn, b: Drawn, figure: Figure) -> tuple[float, float]:
    """The means over the draws of two runs; rows that were taken whole are paired with every draw of the other run."""
    n = max(len(a), len(b))
    pairs = zip(a * (n // len(a)), b * (n // len(b)), strict=True)
    values, chances = zip(*(figure(rows, of_a, of_b) for (rows, of_a), (_, of_b) in pairs), strict=True)
    return float(np.mean(values)), float(np.mean(chances))


def _overlap(rows: Tensor, a: Subspace, b: Subspace) -> tuple[float, float]:
    return overlap(a.basis, b.basis), max(a.rank, b.rank) / len(a.basis)


def _explained(rows: Tensor, a: Subspace, b: Subspace) -> tuple[float, float]:
    return explained_energy(rows, b.basis), b.rank / len(b.basis)


def _subsets(rows: Tensor, size: int, rng: np.random.Generator, draws: int) -> list[Tensor]:
    if size == len(rows):
        return [rows]
    chosen = [torch.from_numpy(rng.choice(len(rows), size, replace=False)).to(rows.device) for _ in range(draws)]
    return [rows[places] for places in chosen]
