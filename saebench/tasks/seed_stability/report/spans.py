"""The figures of what unstable latents span: ranks, and how much of the spans recurs, as a whole and by clusters."""

from __future__ import annotations

from collections.abc import Mapping

from saebench.evaluation import Report
from saebench.stats.intervals import Estimate
from saebench.stats.runs import Pair, over_each, over_runs
from saebench.tasks.seed_stability.scoring.clusters import ClusterRecurrence
from saebench.tasks.seed_stability.scoring.subspaces import Recurrence, UnstableSubspaces
from saebench.tasks.seed_stability.settings import SeedStabilitySettings


def report_subspaces(report: Report, subspaces: UnstableSubspaces) -> None:
    """Add the ranks of unstable and stable rows, their ratios, and how much of the unstable subspaces recurs."""
    why = "fewer than two runs have two unstable and two stable latents"
    effective, rank = subspaces.effective_rank, subspaces.rank
    for kind, by_run in effective.items():
        report.estimate("effective_rank", over_each(by_run), unit="run", why=why, subset=kind)
        report.estimate("subspace_rank", over_each(rank[kind]), unit="run", why=why, subset=kind)
    for metric, by_kind in (("effective_rank_ratio", effective), ("subspace_rank_ratio", rank)):
        ratios = {run: value / by_kind["stable"][run] for run, value in by_kind["unstable"].items()}
        report.estimate(metric, over_each(ratios), unit="run", why=why)
    for recurrence in subspaces.recurrences:
        _report_recurrence(report, recurrence, why)
    report.count("subspace_rows", subspaces.rows)
    report.count("unstable_rows", subspaces.unstable_rows)


def report_clusters(report: Report, clusters: ClusterRecurrence, settings: SeedStabilitySettings) -> None:
    """Add how much of the clusters of unstable rows recurs, and of those of stable rows."""
    for kind, recurrences, subset in (("unstable", clusters.unstable, ""), ("stable", clusters.stable, "stable")):
        why = f"fewer than two runs have {2 * settings.cluster_size} {kind} latents"
        for recurrence in recurrences:
            _report_recurrence(report, recurrence, why, subset)
    report.count("clusters", clusters.clusters)
    report.count("clustered_rows", clusters.rows)


def _report_recurrence(report: Report, recurrence: Recurrence, why: str, subset: str = "") -> None:
    """Add the values, those of each null, and how far the values lie above each null."""
    metric = recurrence.metric
    report.estimate(metric, _over_runs(recurrence.values), unit="run", why=why, subset=subset)
    for null, values in recurrence.nulls.items():
        report.estimate(metric, _over_runs(values), unit="run", why=why, subset=null)
    for null in recurrence.nulls:
        estimate = _over_runs(recurrence.above_null(null))
        report.estimate(f"{metric}_normalised", estimate, unit="run", why=why, subset=null)


def _over_runs(values: Mapping[Pair, float]) -> Estimate:
    return over_runs({pair: (value, 1.0) for pair, value in values.items()})
