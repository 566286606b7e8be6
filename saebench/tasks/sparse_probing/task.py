"""k-sparse probing of one SAE (2502.16681): the AUC of logistic probes on few latents, beside that of a dense probe."""

from __future__ import annotations

from typing import ClassVar

import torch

from saebench.evaluation import SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.sparse_probing.data.datasets import all_datasets, load_datasets
from saebench.tasks.sparse_probing.report import (
    probing_report,
    report_counts,
    report_datasets,
    report_probes,
    report_quiver,
    report_regime,
)
from saebench.tasks.sparse_probing.scoring.baselines import baseline_scores
from saebench.tasks.sparse_probing.scoring.regimes import score_regime
from saebench.tasks.sparse_probing.scoring.standard import probe_activations, probe_latents, probe_neurons
from saebench.tasks.sparse_probing.settings import SparseProbingSettings


class SparseProbingTask(SAETask[SparseProbingSettings]):
    """Probes on the k latents that differ most between two classes, for every SAE that encodes single tokens."""

    name: ClassVar[str] = "sparse_probing"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = SparseProbingSettings

    def prepare(self, context: TaskContext, settings: SparseProbingSettings) -> None:
        """Raise UsageError or DataError for datasets that cannot be used, before any SAE is loaded."""
        for dataset in all_datasets(context, settings):
            context.examples(dataset.texts, settings.context_length)

    def data(self, context: TaskContext, settings: SparseProbingSettings) -> dict[str, str]:
        """The content hashes of the datasets."""
        datasets = all_datasets(context, settings)
        return super().data(context, settings) | {dataset.ref: dataset.content_hash for dataset in datasets}

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: SparseProbingSettings) -> TaskOutput:
        """Probe ``sae`` on every dataset, in the standard regime and in those of the settings."""
        datasets = load_datasets(context, settings.datasets, settings)
        coder, site = Coder(sae, context.budget.encoder), sae.hook.site_in
        dense = probe_activations(context, datasets, site, settings)
        neurons = probe_neurons(context, datasets, site, settings)
        sparse = probe_latents(context, datasets, coder, settings)
        baselines = baseline_scores(context, datasets, site, settings)

        report = probing_report(self.card, context, settings)
        report.units("dataset", [dataset.drawn for dataset in all_datasets(context, settings)])
        report_probes(report, sparse, dense, neurons)
        report_quiver(report, sparse, dense, baselines)
        report_datasets(report, datasets, sparse, dense)
        report_counts(report, datasets, sparse, sae.d_sae)
        for regime in settings.regimes:
            report_regime(report, regime, *score_regime(context, regime, coder, settings))
        return report.output()
