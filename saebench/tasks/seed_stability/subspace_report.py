"""Do the unstable latents of different runs span the same subspace, though none of them comes back?

Definitions 1.1 (arXiv 2606.12138; the formulas are ours). Two nulls stand beside every overlap: random subspaces of the
same ranks, and random sets of as many *stable* rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Tensor

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.stats.runs import over_each, over_runs
from saebench.stats.subspaces import Subspace, above, explained_energy, overlap, subspace
from saebench.tasks.seed_stability.geometry import Pair

Rng = Callable[[str], np.random.Generator]
Values = dict[Pair, tuple[float, float]]
FEWEST = 2  # rows below which there is no subspace to speak of


def report_subspaces(
    output: TaskOutput, unstable: Sequence[Tensor], stable: Sequence[Tensor], rng: Rng, draws: int, energy: float
) -> None:
    """Ranks, overlaps and cross-explained energy of ``unstable[run][n, d]``; rows are taken at length one.

    Sets are compared at equal size: where one kind has fewer rows, ``draws`` random sets of as many are drawn of the
    other, and figures are means over them. A run with fewer than two rows of a kind is left out.
    """
    runs = [run for run in range(len(unstable)) if min(len(unstable[run]), len(stable[run])) >= FEWEST]
    reason = "fewer than two runs have two unstable and two stable latents"
    sets: dict[str, dict[int, list[tuple[Tensor, Subspace]]]] = {"unstable": {}, "stable": {}}
    for run in runs:
        size = min(len(unstable[run]), len(stable[run]))
        for kind, rows in (("unstable", _unit(unstable[run])), ("stable", _unit(stable[run]))):
            drawn = _subsets(rows, size, rng(f"subsets:{kind}:{run}"), draws)
            sets[kind][run] = [(each, subspace(each, energy)) for each in drawn]
    effective, rank = {}, {}
    for kind, by_run in sets.items():
        effective[kind] = {run: float(np.mean([s.effective_rank for _, s in drawn])) for run, drawn in by_run.items()}
        rank[kind] = {run: float(np.mean([s.rank for _, s in drawn])) for run, drawn in by_run.items()}
        add(output, "effective_rank", over_each(effective[kind]), "run", reason, kind)
        add(output, "subspace_rank", over_each(rank[kind]), "run", reason, kind)
    for metric, values in (("effective_rank", effective), ("subspace_rank", rank)):
        ratio = {run: values["unstable"][run] / values["stable"][run] for run in runs}
        add(output, f"{metric}_ratio", over_each(ratio), "run", reason)
    _overlaps(output, sets, runs, reason)
    output.counts |= {
        "subspace_rows": sum(len(sets["unstable"][run][0][0]) for run in runs),
        "unstable_rows": sum(map(len, unstable)),
    }


def _overlaps(
    output: TaskOutput, sets: dict[str, dict[int, list[tuple[Tensor, Subspace]]]], runs: list[int], reason: str
) -> None:
    """Of all pairs of runs: values, those of both nulls, and how far the values lie above them."""
    for metric, pairs, between in (
        ("subspace_overlap", list(combinations(runs, 2)), _overlap),
        ("cross_explained", list(permutations(runs, 2)), _explained),
    ):
        value, chance, among_stable = {}, {}, {}
        for a, b in pairs:
            value[a, b], chance[a, b] = between(sets["unstable"][a], sets["unstable"][b])
            among_stable[a, b], _ = between(sets["stable"][a], sets["stable"][b])
        above_chance = {pair: above(value[pair], chance[pair]) for pair in value}
        above_stable = {pair: above(value[pair], among_stable[pair]) for pair in value}
        for name, subset, values in (
            (metric, "", value),
            (metric, "null:isotropic", chance),
            (metric, "null:stable", among_stable),
            (f"{metric}_normalised", "null:isotropic", above_chance),
            (f"{metric}_normalised", "null:stable", above_stable),
        ):
            add(output, name, over_runs({pair: (each, 1.0) for pair, each in values.items()}), "run", reason, subset)


Drawn = list[tuple[Tensor, Subspace]]


def _overlap(a: Drawn, b: Drawn) -> tuple[float, float]:
    """Overlap of the subspaces of two runs and its mean for random ones, over their draws."""
    found = [
        (overlap(s.basis, r.basis), max(s.rank, r.rank) / len(s.basis))
        for (_, s), (_, r) in zip(*_even(a, b), strict=True)
    ]
    return float(np.mean([f for f, _ in found])), float(np.mean([c for _, c in found]))


def _explained(a: Drawn, b: Drawn) -> tuple[float, float]:
    """Share of the energy of the rows of ``a`` in the subspaces of ``b``, and in random ones."""
    found = [
        (explained_energy(rows, r.basis), r.rank / len(r.basis)) for (rows, _), (_, r) in zip(*_even(a, b), strict=True)
    ]
    return float(np.mean([f for f, _ in found])), float(np.mean([c for _, c in found]))


def _even(a: Drawn, b: Drawn) -> tuple[Drawn, Drawn]:
    """As many draws of both: a set that is taken whole is compared with every draw of the other."""
    n = max(len(a), len(b))
    return a * (n // len(a)), b * (n // len(b))


def _subsets(rows: Tensor, size: int, rng: np.random.Generator, draws: int) -> list[Tensor]:
    if size == len(rows):
        return [rows]
    chosen = [torch.from_numpy(rng.choice(len(rows), size, replace=False)).to(rows.device) for _ in range(draws)]
    return [rows[each] for each in chosen]


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.double(), dim=-1)
