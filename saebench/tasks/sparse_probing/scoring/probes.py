"""Logistic probes on labelled examples: k-sparse ones on latents, and a dense one on whole activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.sae.codes import Codes
from saebench.sae.protocol import SparseCodes
from saebench.stats.probes.folds import folds
from saebench.stats.probes.logistic import Penalty, row_space
from saebench.stats.probes.search import Fold, Outcome, Problem, Scaling, choose_and_test, feature_scale
from saebench.stats.probes.selection import Ranking, columns, rank_latents
from saebench.tasks.sparse_probing.data.examples import ProbeData, Rng
from saebench.tasks.sparse_probing.settings import SparseProbingSettings

_BLOCK = 2**24  # float32 numbers of the problems that are fitted together

# 2502.16681: C from 1e5 down. Of several with the same validation AUC the first is chosen.
C_GRID: tuple[float, ...] = tuple(float(c) for c in np.logspace(5, -5, 10))


@dataclass
class ProbeScores:
    """Scores ``[problems, ks]`` of probes, in the order of the problems. NaN where a score is not defined."""

    ks: tuple[int, ...]
    val_auc: NDArray[np.float64]
    auc: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    f1: NDArray[np.float64]
    c: NDArray[np.float64]  # the C that was chosen
    counts: dict[str, int]  # fits, unconverged_fits, constant_latents


def evaluate_sae(
    problems: Iterable[ProbeData],
    d_sae: int,
    ks: Sequence[int],
    settings: SparseProbingSettings,
    rng: Rng,
    cs: tuple[float, ...] = C_GRID,
) -> ProbeScores:
    """Fit and test k-sparse probes on latents, for all ``problems`` and ``ks``, in batches.

    To choose C, latents are ranked on the training rows of each fold; for the probe that is tested, on all training
    rows. Problems are read one by one, and only the columns of the chosen latents are kept.

    Args:
        problems: Examples with their latents.
        d_sae: The number of latents of the SAE.
        ks: How many latents a probe reads; above ``d_sae`` it reads all.
        settings: Gives ranking, penalty and scaling.
        rng: Gives the random generators that divide training examples into folds (``TaskContext.rng``).
        cs: The values of C to choose from.
    """
    most = min(max(ks), d_sae)

    def prepared() -> Iterator[Problem]:
        for data in problems:
            y, n_train = _labels(data)
            train = torch.zeros_like(y)
            train[:n_train] = True
            final = Fold(_ranked_columns(data, train, most, d_sae, settings.ranking), y, train)
            validation = []
            for mask in _folds(data, rng):
                rows = torch.zeros_like(y)
                rows[:n_train] = mask.to(y.device)
                x = _ranked_columns(data, rows, most, d_sae, settings.ranking)[:n_train]
                validation.append(Fold(x, y[:n_train], rows[:n_train]))
            yield Problem(final, tuple(validation))

    return _evaluate(prepared(), tuple(ks), settings.penalty, cs, settings.scaling)


def evaluate_dense(
    problems: Iterable[ProbeData], scaling: Scaling, rng: Rng, cs: tuple[float, ...] = C_GRID
) -> ProbeScores:
    """Fit and test probes with an L2 penalty on whole activations ``[n, d]``.

    They are fitted in the space that the training rows span, where the L2 probe is the same.

    Args:
        problems: Examples with their activations.
        scaling: By what the dimensions are divided, from all training rows.
        rng: Gives the random generators that divide training examples into folds.
        cs: The values of C to choose from.

    Returns:
        Scores with one column.
    """

    def prepared() -> Iterator[Problem]:
        for data in problems:
            y, n_train = _labels(data)
            assert isinstance(data.x_train, Tensor)
            assert isinstance(data.x_test, Tensor)
            x = torch.cat([data.x_train, data.x_test]).double()
            x = (x - x[:n_train].mean(0)) / feature_scale(x[None, :n_train], scaling)[0]
            x = x @ row_space(x[:n_train])
            train = torch.arange(len(y), device=y.device) < n_train
            validation = [Fold(x[:n_train], y[:n_train], mask.to(y.device)) for mask in _folds(data, rng)]
            yield Problem(Fold(x, y, train), tuple(validation))

    return _evaluate(prepared(), (0,), "l2", cs, "none")


def _labels(data: ProbeData) -> tuple[Tensor, int]:
    return torch.cat([data.y_train, data.y_test]).bool(), len(data.y_train)


def _folds(data: ProbeData, rng: Rng) -> list[Tensor]:
    masks = folds(data.y_train.cpu().numpy().astype(bool), rng("folds", data.content))
    return [torch.from_numpy(mask) for mask in masks]


def _ranked_columns(data: ProbeData, rows: Tensor, k: int, d_sae: int, ranking: Ranking) -> Tensor:
    """Columns ``[n_train + n_test, k]`` of the latents that rank first on the training examples in ``rows``."""
    (values, indices), (test_values, test_indices) = _parts(data.x_train), _parts(data.x_test)
    latents = rank_latents(values, indices, data.y_train.bool(), rows[: len(data.y_train)], d_sae, k, ranking)
    return torch.cat([columns(values, indices, latents, d_sae), columns(test_values, test_indices, latents, d_sae)])


def _parts(codes: Codes) -> tuple[Tensor, Tensor | None]:
    return (codes.values, codes.indices) if isinstance(codes, SparseCodes) else (codes, None)


def _evaluate(
    problems: Iterable[Problem], ks: tuple[int, ...], penalty: Penalty, cs: tuple[float, ...], scaling: Scaling
) -> ProbeScores:
    """Fit in blocks of bounded size. A probe with k = 0 reads all columns."""
    parts: list[list[Outcome]] = []
    constant = 0
    for block in _blocks(problems):
        constant += sum(_constant_columns(problem.final) for problem in block)
        parts.append([choose_and_test([problem.narrow(k) for problem in block], penalty, cs, scaling) for k in ks])
    outcomes = [Outcome.joined([part[i] for part in parts]) for i in range(len(ks))]

    def stacked(name: str) -> NDArray[np.float64]:
        return np.stack([getattr(outcome, name) for outcome in outcomes], axis=1)

    counts = {
        "fits": sum(outcome.fits for outcome in outcomes),
        "unconverged_fits": sum(outcome.unconverged for outcome in outcomes),
        "constant_latents": constant,
    }
    scores = (stacked("val_auc"), stacked("auc"), stacked("accuracy"), stacked("f1"), stacked("c"))
    return ProbeScores(ks, *scores, counts)


def _blocks(problems: Iterable[Problem]) -> Iterator[list[Problem]]:
    block: list[Problem] = []
    size = 0
    for problem in problems:
        block.append(problem)
        size += problem.size
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _constant_columns(fold: Fold) -> int:
    """How many chosen latents take one value on all training rows, which happens where fewer than k vary."""
    x = fold.x[fold.train]
    return int((x == x[:1]).all(0).sum())
