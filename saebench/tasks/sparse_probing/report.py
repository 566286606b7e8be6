"""Measurements of probes: means over datasets, the quiver, single datasets, and the regimes.

The dataset is the unit of intervals and of paired comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from saebench.cards.card import TaskCard
from saebench.evaluation import Report
from saebench.evaluation.report import Array
from saebench.passes.context import TaskContext
from saebench.stats.intervals import Estimate
from saebench.tasks.sparse_probing.data.datasets import Dataset
from saebench.tasks.sparse_probing.scoring.probes import ProbeScores
from saebench.tasks.sparse_probing.scoring.regimes import REGIME_KS, RegimeScores
from saebench.tasks.sparse_probing.selection import choose_methods
from saebench.tasks.sparse_probing.settings import Regime, SparseProbingSettings

_SCORES = ("auc", "accuracy", "f1")
_GAIN_KS = (16, 128)  # values of k that are compared with the dense probe
_NEURON_KS = (1, 16)  # values of k that are compared with probes on as many neurons


def probing_report(card: TaskCard, context: TaskContext, settings: SparseProbingSettings) -> Report:
    """An empty report, which takes the scores of every k of the settings.

    The card lists the metrics of the usual values of k. Others are added here, after the example of k = 16.
    """
    listed = {metric.id for metric in card.metrics}
    ids = {f"{score}_k{k}": card.metric(f"{score}_k16") for score in _SCORES for k in settings.k}
    further = [spec.model_copy(update={"id": metric}) for metric, spec in ids.items() if metric not in listed]
    card = card.model_copy(update={"metrics": [*card.metrics, *further]})
    return Report(card, context, settings.bootstrap_replicates)


def report_probes(report: Report, sparse: ProbeScores, dense: ProbeScores, neurons: ProbeScores) -> None:
    """Add the mean scores of the probes on latents, how far they are from others, and the scores of the dense probe.

    All are on the same datasets. Those on ``neurons`` have the same values of k as those on latents.
    """
    for column, k in enumerate(sparse.ks):
        for score in _SCORES:
            report_mean(report, f"{score}_k{k}", getattr(sparse, score)[:, column])
        if k in _GAIN_KS:
            report_mean(report, f"gain_over_dense_k{k}", sparse.auc[:, column] - dense.auc[:, 0])
        if k in _NEURON_KS:
            report_mean(report, f"auc_k{k}_over_neurons", sparse.auc[:, column] - neurons.auc[:, column])
            report_mean(report, f"auc_k{k}_neurons", neurons.auc[:, column])
    report_mean(report, "auc_dense", dense.auc[:, 0])
    report_mean(report, "accuracy_dense", dense.accuracy[:, 0])
    report.array("val_auc", sparse.val_auc)
    report.array("c", sparse.c)


def report_quiver(report: Report, sparse: ProbeScores, dense: ProbeScores, baselines: Mapping[str, Array]) -> None:
    """Add the baselines, and what the probes on latents add to them.

    Args:
        report: Takes the measurements.
        sparse: Scores of the probes on latents.
        dense: Scores of the dense probe on the same datasets, in the same order.
        baselines: Validation and test AUC ``[2, datasets]`` of the other baselines.
    """
    aucs = {"logistic": np.stack([dense.val_auc[:, 0], dense.auc[:, 0]]), **baselines}
    for method, (_, tested) in aucs.items():
        report_mean(report, "baseline_auc", tested, subset=method)
    val, auc = np.stack(list(aucs.values()), axis=-1)
    quiver = choose_methods(val, auc, sparse.val_auc, sparse.auc)
    why = "no dataset has both a baseline and an SAE probe that can be chosen"
    report_mean(report, "quiver_auc", quiver.auc, why=why)
    report_mean(report, "quiver_gain", quiver.gain, why=why)
    report_mean(report, "quiver_sae_share", quiver.took_sae, why=why)


def report_datasets(report: Report, datasets: Sequence[Dataset], sparse: ProbeScores, dense: ProbeScores) -> None:
    """Add the test AUC on each dataset, which has no interval."""
    columns = {f"auc_k{k}": sparse.auc[:, column] for column, k in enumerate(sparse.ks)}
    for metric, values in {**columns, "auc_dense": dense.auc[:, 0]}.items():
        for value, dataset in sorted(zip(values, datasets, strict=True), key=lambda row: row[1].name):
            # Records name no method where there is no interval.
            estimate = Estimate(float(value), np.nan, np.nan, np.nan, len(dataset.y) - dataset.n_train, "")
            why = "one class in the test set, or a margin without a value"
            report.estimate(metric, estimate, unit="example", why=why, subset=dataset.name)


def report_regime(report: Report, regime: Regime, sparse: RegimeScores, dense: RegimeScores) -> None:
    """Add ``<regime>_auc_k<K>`` and ``<regime>_auc_dense``: the mean over all levels, and each level as a subset."""
    probes = [(f"k{k}", sparse, column) for column, k in enumerate(REGIME_KS)] + [("dense", dense, 0)]
    for probe, scores, column in probes:
        metric = f"{regime}_auc_{probe}"
        by_level = {level: auc[:, column] for level, auc in scores.items()}
        everywhere = np.stack(list(by_level.values()), axis=1)
        report_mean(report, metric, everywhere, why="no dataset has enough examples for any level")
        for level, values in by_level.items():
            if level:  # the regime "ood" has no levels to tell apart
                report_mean(report, metric, values, subset=level, why="no dataset has enough examples for this level")
    scored = np.stack([np.isfinite(auc).all(1) for auc in sparse.values()])
    report.count(f"{regime}_settings", scored.size)
    report.count(f"{regime}_not_scored", int((~scored).sum()))


def report_counts(report: Report, datasets: Sequence[Dataset], sparse: ProbeScores, d_sae: int) -> None:
    """Add how many examples there were, how many probes were fitted, and how many values of k exceed the SAE."""
    report.count("datasets", len(datasets))
    report.note("datasets", [dataset.name for dataset in datasets])  # the order of the arrays
    report.count("train_examples", sum(dataset.n_train for dataset in datasets))
    report.count("test_examples", sum(len(dataset.y) - dataset.n_train for dataset in datasets))
    report.count("ks_above_d_sae", sum(k > d_sae for k in sparse.ks))
    for name, value in sparse.counts.items():
        report.count(name, value)


def report_mean(
    report: Report, metric: str, values: Array, *, subset: str = "", why: str = "no dataset is scored"
) -> None:
    """Add the mean of ``values[datasets]``, or of ``values[datasets, levels]``, over what is not NaN.

    Every dataset is a contribution, with denominator 0 where it is not scored, so that SAEs are compared on the same
    datasets.
    """
    table = values.reshape(len(values), -1)
    scored = np.isfinite(table)
    parts = np.where(scored, table, 0.0).sum(1), scored.sum(1).astype(np.float64)
    report.ratio(metric, parts, unit="dataset", why=why, subset=subset)
