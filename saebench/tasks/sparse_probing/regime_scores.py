"""Probes of one SAE, and the dense probe, in the regimes beside the standard one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.errors import UsageError, did_you_mean
from saebench.evaluation.task import TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.sae.protocol import SAE
from saebench.tasks.sparse_probing.data import Dataset, activations, codes, load_datasets
from saebench.tasks.sparse_probing.means import add_mean
from saebench.tasks.sparse_probing.problem import (
    ProbeData,
    ProbeScores,
    ProbeSettings,
    Rng,
    evaluate_dense,
    evaluate_sae,
)
from saebench.tasks.sparse_probing.regimes import Draw, imbalance, noise, scarcity
from saebench.tasks.sparse_probing.shift import shifted, shifted_pairs

REGIME_KS = (16, 128)  # as in the paper: all values of k in all settings would be a hundred times the standard regime
OOD = "ood"
REGIMES = ("scarcity", "imbalance", "noise", OOD)
_SETTINGS = {"scarcity": "scarcity_sizes", "imbalance": "imbalance_shares", "noise": "noise_shares"}

Table = dict[str, NDArray[np.float64]]  # setting -> AUC [datasets, probes], the mean over draws
Evaluate = Callable[[Iterator[ProbeData]], ProbeScores]


def check_regimes(parameters: dict[str, Any]) -> None:
    """Raises UsageError for a regime that does not exist and for settings that it cannot have."""
    for name in parameters["regimes"]:
        if name not in REGIMES:
            raise UsageError(
                f"There is no regime {name!r} beside the standard one; there are {', '.join(REGIMES)}."
                f"{did_you_mean(name, REGIMES)}"
            )
    for regime, name in _SETTINGS.items():
        if regime in parameters["regimes"] and not parameters[name]:
            raise UsageError(f"Parameter {name!r} is empty, so the regime {regime!r} has no setting; give one.")
    if any(size < 2 for size in parameters["scarcity_sizes"]):
        raise UsageError("Parameter 'scarcity_sizes' must hold 2 or more: a probe needs an example of each class.")
    if any(not 0 < share < 1 for share in parameters["imbalance_shares"]):
        raise UsageError("Parameter 'imbalance_shares' must hold shares between 0 and 1, such as 0.05.")
    if any(not 0 <= share <= 0.5 for share in parameters["noise_shares"]):
        raise UsageError(
            "Parameter 'noise_shares' must hold shares from 0 to 0.5: beyond, the labels are another task's."
        )


def shift_datasets(context: TaskContext, parameters: dict[str, Any]) -> list[Dataset]:
    """What the `OOD` regime reads, if ``parameters`` name it."""
    if OOD not in parameters["regimes"]:
        return []
    return [dataset for pair in shifted_pairs(context, parameters) for dataset in pair]


def regime_draws(regime: str, data: ProbeData, parameters: dict[str, Any], rng: Rng) -> Iterator[Draw]:
    """The draws of a dataset in ``regime``; `OOD` has one, everything."""
    resamples = parameters["resamples"]
    if regime == "scarcity":
        return scarcity(data, parameters["scarcity_sizes"], resamples, rng)
    if regime == "imbalance":
        return imbalance(data, parameters["imbalance_shares"], 1, rng)
    if regime == "noise":
        return noise(data, parameters["noise_shares"], 1, rng)
    return iter([Draw("", f"{data.name}:{OOD}")])


def settings_of(regime: str, parameters: dict[str, Any]) -> list[str]:
    """The settings of ``regime`` in their order, reached by a dataset or not."""
    return {
        "scarcity": [f"n={size}" for size in parameters["scarcity_sizes"]],
        "imbalance": [f"positive={share:g}" for share in parameters["imbalance_shares"]],
        "noise": [f"flipped={share:g}" for share in parameters["noise_shares"]],
        OOD: [""],
    }[regime]


def regime_table(
    regime: str,
    n_datasets: int,
    read: Callable[[int], ProbeData],
    evaluate: Evaluate,
    parameters: dict[str, Any],
    rng: Rng,
) -> Table:
    """AUC in every setting of ``regime`` on the datasets ``read(0)``, ``read(1)``, ....

    NaN where a dataset does not reach the setting or has no AUC there.
    """
    drawn: list[tuple[int, str]] = []

    def problems() -> Iterator[ProbeData]:
        for number in range(n_datasets):
            data = read(number)
            for draw in regime_draws(regime, data, parameters, rng):
                drawn.append((number, draw.setting))
                yield draw.of(data)

    scores = evaluate(problems())
    table = {}
    for setting in settings_of(regime, parameters):
        rows = [
            [index for index, place in enumerate(drawn) if place == (number, setting)] for number in range(n_datasets)
        ]
        table[setting] = np.stack([_mean(scores.auc[each]) for each in rows])
    return table


def measure_regimes(
    output: TaskOutput,
    sae: SAE,
    coder: Coder,
    context: TaskContext,
    settings: ProbeSettings,
    parameters: dict[str, Any],
) -> None:
    """Add the metrics of every regime that ``parameters`` name; the dense probe is fitted once for all SAEs."""
    length, pooling, site = parameters["context_length"], parameters["pooling"], sae.hook.site_in
    on_activations = ProbeSettings("l2", scaling=parameters["dense_scaling"])

    def latents(dataset: Dataset) -> ProbeData:
        return codes(context, dataset, sae, coder, length, pooling)

    def whole(dataset: Dataset) -> ProbeData:
        return activations(context, dataset, site, length, pooling)

    def probe_latents(problems: Iterator[ProbeData]) -> ProbeScores:
        return evaluate_sae(problems, sae.d_sae, REGIME_KS, settings, context.rng)

    def probe_whole(problems: Iterator[ProbeData]) -> ProbeScores:
        return evaluate_dense(problems, on_activations, context.rng)

    for regime in parameters["regimes"]:
        n_datasets, of_number = _datasets(regime, context, parameters)
        table = partial(regime_table, regime, n_datasets, parameters=parameters, rng=context.rng)
        sparse = table(read=partial(of_number, read=latents), evaluate=probe_latents)
        key = ("sparse_probing", regime, site, json.dumps(parameters, sort_keys=True))
        dense = context.shared(key, partial(table, read=partial(of_number, read=whole), evaluate=probe_whole))
        add_regime(output, regime, sparse, dense, context, parameters["bootstrap_replicates"])


def _datasets(regime: str, context: TaskContext, parameters: dict[str, Any]) -> tuple[int, Callable[..., ProbeData]]:
    """How many datasets a regime has, and a function of a number and of ``read``, which reads one `Dataset`."""
    if regime == OOD:
        pairs = shifted_pairs(context, parameters)
        return len(pairs), lambda number, read: shifted(*map(read, pairs[number]))
    datasets = load_datasets(context, parameters)
    return len(datasets), lambda number, read: read(datasets[number])


def add_regime(
    output: TaskOutput, regime: str, sae: Table, dense: Table, context: TaskContext, replicates: int
) -> None:
    """Add ``<regime>_auc_k<K>`` and ``<regime>_auc_dense``: over all settings, and of each as a subset."""
    settings = list(sae)
    n_datasets = len(sae[settings[0]])
    weights = context.bootstrap_weights(n_datasets, replicates)
    probes = [(f"k{k}", sae, column) for column, k in enumerate(REGIME_KS)] + [("dense", dense, 0)]
    for label, table, column in probes:
        values = np.stack([table[setting][:, column] for setting in settings], axis=1)
        metric, reason = f"{regime}_auc_{label}", "no dataset reaches this setting"
        add_mean(output, metric, values, weights, not_scored=reason)
        for number, setting in enumerate(settings if settings != [""] else []):
            add_mean(output, metric, values[:, number], weights, setting, reason)
    scored = np.stack([np.isfinite(table).all(1) for table in sae.values()])
    output.counts |= {f"{regime}_settings": scored.size, f"{regime}_not_scored": int((~scored).sum())}


def _mean(auc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over draws ``[draws, probes]``; NaN for none, or if one of them has none."""
    return auc.mean(0) if len(auc) else np.full(auc.shape[1], np.nan)
