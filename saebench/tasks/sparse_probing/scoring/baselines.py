"""The baselines of 2502.16681: classifiers on the whole activation that a user would try before an SAE.

The candidate of a classifier with the best mean validation AUC is fitted to all training examples and tested. Inputs
are standardised by the training rows of each fit. The dense logistic probe, the strongest baseline, is not here but in
`saebench.tasks.sparse_probing.scoring.probes.evaluate_dense`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from saebench.passes.context import TaskContext
from saebench.sae.codes import Codes
from saebench.stats.probes.folds import folds
from saebench.stats.probes.scores import accuracy, auc, weighted_f1
from saebench.tasks.sparse_probing.data.datasets import Dataset
from saebench.tasks.sparse_probing.data.examples import ProbeData, Rng, read_activations
from saebench.tasks.sparse_probing.scoring.classifiers import (
    CLASSIFIERS,
    GRIDS,
    Array,
    Classifier,
    Grid,
    Labels,
    Predict,
)
from saebench.tasks.sparse_probing.settings import BaselineMethod, SparseProbingSettings


class BaselineScores(NamedTuple):
    """Scores of one classifier on one dataset; NaN where they are not defined because there is one class only."""

    val_auc: float
    auc: float
    accuracy: float
    f1: float


def baseline_scores(
    context: TaskContext, datasets: Sequence[Dataset], site: str, settings: SparseProbingSettings
) -> dict[str, Array]:
    """Return validation and test AUC ``[2, datasets]`` of each baseline at ``site``, fitted once for all SAEs there."""
    grid = GRIDS[settings.baseline_grid]

    def fit() -> dict[str, Array]:
        scores: dict[str, Array] = {method: np.full((2, len(datasets)), np.nan) for method in settings.baselines}
        with context.progress.task(f"baselines at {site}", len(datasets), "datasets") as ticker:
            for column, dataset in enumerate(datasets):
                data = read_activations(context, dataset, site, settings)
                for method in settings.baselines:
                    fitted = evaluate_baseline(data, method, grid, context.rng)
                    scores[method][:, column] = fitted.val_auc, fitted.auc
                ticker.advance()
        return scores

    return context.shared(("sparse_probing", "baselines", site, settings), fit)


def evaluate_baseline(data: ProbeData, method: BaselineMethod, grid: Grid, rng: Rng) -> BaselineScores:
    """Choose a candidate of ``method`` by the folds that the probes on latents use, fit it again, and test it.

    Without folds (three training examples or fewer) the middle candidate is taken, and ``val_auc`` is its AUC on the
    training examples, as it is for the probes on latents.

    Args:
        data: Examples with their activations.
        method: Which classifier.
        grid: How many candidates it tries.
        rng: Gives the random generators that divide training examples into folds and draw candidates.
    """
    classifier = CLASSIFIERS[method]
    x, y = _rows(data.x_train), data.y_train.cpu().numpy().astype(bool)
    if not y.any() or y.all():
        return BaselineScores(*[float("nan")] * 4)
    draw = rng(f"baseline:{method}", data.content)
    masks = folds(y, rng("folds", data.content))
    smallest = min((int(mask.sum()) for mask in masks), default=len(y))
    candidates = classifier.candidates(smallest, x.shape[1], grid, draw)
    seed = int(draw.integers(2**31))
    with warnings.catch_warnings():
        # A network that stops at its last epoch is a candidate like any other.
        warnings.simplefilter("ignore", category=_convergence_warning())
        by_fold = [
            _auc(_fit_standardised(classifier, x[mask], y[mask], candidates, seed)(x[~mask]), y[~mask])
            for mask in masks
        ]
        validation = np.mean(by_fold, axis=0) if masks else np.empty(0)
        best = int(validation.argmax()) if masks else len(candidates) // 2
        predict = _fit_standardised(classifier, x, y, candidates[best : best + 1], seed)
        on_training = float(_auc(predict(x), y)[0])
        scores = torch.from_numpy(predict(_rows(data.x_test))[0])
    y_test, all_rows = data.y_test.cpu().bool(), torch.ones(len(scores), dtype=torch.bool)
    return BaselineScores(
        float(validation[best]) if masks else on_training,
        float(auc(scores, y_test, all_rows)),
        float(accuracy(scores > 0.5, y_test, all_rows)),
        float(weighted_f1(scores > 0.5, y_test, all_rows)),
    )


def _rows(x: Codes) -> Array:
    assert isinstance(x, Tensor)  # activations, not codes
    return x.cpu().numpy().astype(np.float64)


def _auc(scores: Array, y: Labels) -> Array:
    labels = torch.from_numpy(y)
    return auc(torch.from_numpy(scores), labels, torch.ones_like(labels)).numpy()


def _convergence_warning() -> type[Warning]:
    from sklearn.exceptions import ConvergenceWarning

    return ConvergenceWarning


def _fit_standardised(classifier: Classifier, x: Array, y: Labels, candidates: Sequence[Any], seed: int) -> Predict:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    predict = classifier.fit(scaler.transform(x), y, candidates, seed)
    return lambda rows: predict(scaler.transform(rows))
