"""Probes in the standard regime: those on an SAE's latents, those on neurons, and the dense probe at its hook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saebench.passes.context import TaskContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.codes import Coder
from saebench.sae.protocol import HookSite
from saebench.tasks.sparse_probing.data.datasets import Dataset
from saebench.tasks.sparse_probing.data.examples import ProbeData, read_activations, read_latents
from saebench.tasks.sparse_probing.scoring.probes import ProbeScores, evaluate_dense, evaluate_sae
from saebench.tasks.sparse_probing.settings import SparseProbingSettings


def probe_latents(
    context: TaskContext, datasets: Sequence[Dataset], coder: Coder, settings: SparseProbingSettings
) -> ProbeScores:
    """Probe the latents of the SAE that ``coder`` encodes with, for every k of the settings in ascending order."""
    sae, ks = coder.sae, sorted(set(settings.k))

    def examples() -> Iterator[ProbeData]:
        with context.progress.task(f"sparse_probing {sae.name}", len(datasets), "datasets") as ticker:
            for dataset in datasets:
                yield read_latents(context, dataset, coder, settings)
                ticker.advance()

    return evaluate_sae(examples(), sae.d_sae, ks, settings, context.rng)


def probe_neurons(
    context: TaskContext, datasets: Sequence[Dataset], site: str, settings: SparseProbingSettings
) -> ProbeScores:
    """Probe the coordinates of the activation at ``site`` as if they were latents, once for all SAEs there."""

    def score() -> ProbeScores:
        width, device = context.lm.d_at(site), context.lm.device
        neurons = NeuronBaseline(width, name="neurons", hook=HookSite.at(site)).to(device)
        return probe_latents(context, datasets, Coder(neurons, context.budget.encoder), settings)

    return context.shared(("sparse_probing", "neurons", site, settings), score)


def probe_activations(
    context: TaskContext, datasets: Sequence[Dataset], site: str, settings: SparseProbingSettings
) -> ProbeScores:
    """Probe the whole activation at ``site``: the dense probe, fitted once for all SAEs there."""
    return context.shared(
        ("sparse_probing", "dense", site, settings),
        lambda: evaluate_dense(
            (read_activations(context, dataset, site, settings) for dataset in datasets),
            settings.dense_scaling,
            context.rng,
        ),
    )
