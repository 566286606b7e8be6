"""k-sparse probing of one SAE (2502.16681): AUC of logistic probes on few latents, beside the dense probe's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from saebench.errors import UsageError, did_you_mean
from saebench.evaluation.measure import add
from saebench.evaluation.task import SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.sae.protocol import SAE, Capability
from saebench.stats.intervals import Estimate
from saebench.tasks.sparse_probing.baselines import baseline_scores, check_baselines
from saebench.tasks.sparse_probing.data import Dataset, activations, codes, load_datasets
from saebench.tasks.sparse_probing.means import add_mean
from saebench.tasks.sparse_probing.problem import ProbeData, ProbeScores, ProbeSettings, evaluate_dense, evaluate_sae
from saebench.tasks.sparse_probing.quiver import add_quiver
from saebench.tasks.sparse_probing.regime_scores import check_regimes, measure_regimes, shift_datasets
from saebench.tasks.sparse_probing.settings import SparseProbingSettings

GAINS = (16, 128)  # values of k that are set against the dense probe
_SCALINGS = ("none", "rms", "standard")
_CHOICES = {
    "pooling": ("last", "mean"),
    "ranking": ("mean_difference", "normalised"),
    "penalty": ("l1", "l2"),
    "scaling": _SCALINGS,
    "dense_scaling": _SCALINGS,
}


class SparseProbingTask(SAETask[SparseProbingSettings]):
    """Probes on the k latents that differ most between two classes, for every SAE that encodes single tokens."""

    name: ClassVar[str] = "sparse_probing"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = SparseProbingSettings

    def prepare(self, context: TaskContext, settings: SparseProbingSettings) -> None:
        """Raise UsageError or DataError for settings and datasets that cannot be used, before any SAE is loaded."""
        parameters = settings.parameters()
        for name, known in _CHOICES.items():
            if (value := parameters[name]) not in known:
                raise UsageError(
                    f"Parameter {name!r} of task {self.name!r} must be one of {', '.join(known)}, not {value!r}."
                    f"{did_you_mean(value, known)}"
                )
        if not parameters["k"] or min(parameters["k"]) < 1:
            raise UsageError(f"Parameter 'k' of task {self.name!r} must hold numbers from 1 up, not {parameters['k']}.")
        check_baselines(parameters)
        check_regimes(parameters)
        for dataset in [*load_datasets(context, parameters), *shift_datasets(context, parameters)]:
            context.examples(dataset.texts, parameters["context_length"])

    def data(self, context: TaskContext, settings: SparseProbingSettings) -> dict[str, str]:
        """Content hashes of the datasets."""
        parameters = settings.parameters()
        datasets = [*load_datasets(context, parameters), *shift_datasets(context, parameters)]
        return {dataset.ref: dataset.content_hash for dataset in datasets}

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: SparseProbingSettings) -> TaskOutput:
        """Probe ``sae`` on every dataset of ``parameters``."""
        parameters = settings.parameters()
        datasets = load_datasets(context, parameters)
        length, pooling = parameters["context_length"], parameters["pooling"]
        settings = ProbeSettings(parameters["penalty"], parameters["ranking"], parameters["scaling"])
        ks = tuple(sorted(set(parameters["k"])))
        coder = Coder(sae, context.budget.encoder)
        dense = self._dense(context, datasets, sae.hook.site_in, parameters)

        def encoded() -> Iterator[ProbeData]:
            with context.progress.task(f"sparse_probing {sae.name}", len(datasets), "datasets") as ticker:
                for dataset in datasets:
                    yield codes(context, dataset, sae, coder, length, pooling)
                    ticker.advance()

        scores = evaluate_sae(encoded(), sae.d_sae, ks, settings, context.rng)
        output = TaskOutput(measurements=[])
        weights = context.bootstrap_weights(len(datasets), parameters["bootstrap_replicates"])
        for i, k in enumerate(ks):
            for metric in ("auc", "accuracy", "f1"):
                add_mean(output, f"{metric}_k{k}", getattr(scores, metric)[:, i], weights)
            if k in GAINS:
                add_mean(output, f"gain_over_dense_k{k}", scores.auc[:, i] - dense.auc[:, 0], weights)
        add_mean(output, "auc_dense", dense.auc[:, 0], weights)
        add_mean(output, "accuracy_dense", dense.accuracy[:, 0], weights)
        baselines = baseline_scores(context, datasets, sae.hook.site_in, parameters)
        add_quiver(output, scores, dense, baselines, weights)
        for i, k in enumerate(ks):
            _each(output, f"auc_k{k}", scores.auc[:, i], datasets)
        _each(output, "auc_dense", dense.auc[:, 0], datasets)
        output.arrays["val_auc"] = scores.val_auc
        output.arrays["c"] = scores.c
        output.counts = {
            "datasets": len(datasets),
            "not_scored": int((~np.isfinite(scores.auc).all(1)).sum()),
            "train_examples": sum(dataset.n_train for dataset in datasets),
            "test_examples": sum(len(dataset.y) - dataset.n_train for dataset in datasets),
            "ks_above_d_sae": sum(k > sae.d_sae for k in ks),
            **scores.counts,
        }
        measure_regimes(output, sae, coder, context, settings, parameters)
        return output

    def _dense(
        self, context: TaskContext, datasets: list[Dataset], site: str, parameters: dict[str, Any]
    ) -> ProbeScores:
        """The reference at ``site``, fitted once for all SAEs."""
        settings = ProbeSettings("l2", scaling=parameters["dense_scaling"])
        length, pooling = parameters["context_length"], parameters["pooling"]
        return context.shared(
            (self.name, "dense", site, json.dumps(parameters, sort_keys=True)),
            lambda: evaluate_dense(
                (activations(context, dataset, site, length, pooling) for dataset in datasets), settings, context.rng
            ),
        )


def _each(output: TaskOutput, metric: str, values: NDArray[np.float64], datasets: list[Dataset]) -> None:
    for value, dataset in zip(values, datasets, strict=True):
        n_test = len(dataset.y) - dataset.n_train
        estimate = Estimate(float(value), np.nan, np.nan, np.nan, n_test, "")
        add(output, metric, estimate, "example", "one class in the test set, or a margin without a value", dataset.name)
