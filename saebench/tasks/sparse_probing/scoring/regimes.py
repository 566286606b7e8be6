"""Probes on latents and the dense probe in the regimes in which labels are few, imbalanced or wrong, or data shift."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.tasks.sparse_probing.data.datasets import Dataset, load_datasets, shifted_pairs
from saebench.tasks.sparse_probing.data.draws import draws, levels
from saebench.tasks.sparse_probing.data.examples import ProbeData, Rng, read_activations, read_latents
from saebench.tasks.sparse_probing.scoring.probes import ProbeScores, evaluate_dense, evaluate_sae
from saebench.tasks.sparse_probing.settings import Regime, SparseProbingSettings

# As in the paper. All values of k at all levels would take a hundred times as long as the standard regime.
REGIME_KS = (16, 128)

RegimeScores = dict[str, NDArray[np.float64]]  # level -> test AUC [datasets, probes], the mean over draws


def score_regime(
    context: TaskContext, regime: Regime, coder: Coder, settings: SparseProbingSettings
) -> tuple[RegimeScores, RegimeScores]:
    """Score the probes on latents, one for each of `REGIME_KS`, and the dense probe, at every level of ``regime``.

    The dense probe is fitted once for all SAEs at a hook.
    """
    sae, site = coder.sae, coder.sae.hook.site_in

    def latents(dataset: Dataset) -> ProbeData:
        return read_latents(context, dataset, coder, settings)

    def activations(dataset: Dataset) -> ProbeData:
        return read_activations(context, dataset, site, settings)

    def sparse(problems: Iterator[ProbeData]) -> ProbeScores:
        return evaluate_sae(problems, sae.d_sae, REGIME_KS, settings, context.rng)

    def dense(problems: Iterator[ProbeData]) -> ProbeScores:
        return evaluate_dense(problems, settings.dense_scaling, context.rng)

    examples = partial(_examples, context, regime, settings)
    return (
        score_levels(regime, examples(latents), sparse, settings, context.rng),
        context.shared(
            ("sparse_probing", regime, site, settings),
            lambda: score_levels(regime, examples(activations), dense, settings, context.rng),
        ),
    )


def score_levels(
    regime: Regime,
    datasets: Iterable[ProbeData],
    evaluate: Callable[[Iterator[ProbeData]], ProbeScores],
    settings: SparseProbingSettings,
    rng: Rng,
) -> RegimeScores:
    """Draw from every dataset at every level of ``regime``, and score probes on the draws.

    Args:
        regime: Which regime.
        datasets: The examples of each dataset in the standard regime.
        evaluate: Fits and tests probes on the draws, all of which it reads.
        settings: Gives the levels and the number of draws.
        rng: Gives the random generators of the draws.

    Returns:
        The mean test AUC over the draws of each dataset at each level. It is NaN where a dataset has too few examples
        for the level, or where a draw has no AUC.
    """
    rows: defaultdict[tuple[int, str], list[int]] = defaultdict(list)  # (dataset, level) -> numbers of its draws
    n_datasets = n_draws = 0

    def drawn() -> Iterator[ProbeData]:
        nonlocal n_datasets, n_draws
        for data in datasets:
            for draw in draws(regime, data, settings, rng):
                rows[n_datasets, draw.level].append(n_draws)
                n_draws += 1
                yield draw.from_data(data)
            n_datasets += 1

    auc = evaluate(drawn()).auc
    return {
        level: np.stack([_mean_over_draws(auc[rows[number, level]]) for number in range(n_datasets)])
        for level in levels(regime, settings)
    }


def _examples(
    context: TaskContext, regime: Regime, settings: SparseProbingSettings, read: Callable[[Dataset], ProbeData]
) -> Iterator[ProbeData]:
    """The examples of each dataset of a regime. The regime ``ood`` has datasets of its own."""
    if regime == "ood":
        for original, shifted in shifted_pairs(context, settings):
            yield read(original).tested_on(read(shifted))
    else:
        yield from map(read, load_datasets(context, settings.datasets, settings))


def _mean_over_draws(auc: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over draws ``[draws, probes]``; NaN without draws, or where a draw has no AUC."""
    return auc.mean(0) if len(auc) else np.full(auc.shape[1], np.nan)
