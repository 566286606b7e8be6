"""Classifiers on the whole activation that SAE probes have to beat: the baselines of 2502.16681, by scikit-learn.

Each method has candidates (component counts, neighbours, random configurations). The candidate with the best mean
validation AUC is fitted to all training examples and tested. Inputs are standardised by the training rows of each fit.
The dense logistic probe, the strongest of them, is `saebench.tasks.sparse_probing.problem.evaluate_dense`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.errors import UsageError, did_you_mean
from saebench.passes.context import TaskContext
from saebench.stats.probes.folds import folds
from saebench.stats.probes.scores import accuracy, auc, weighted_f1
from saebench.tasks.sparse_probing.data import Dataset, activations
from saebench.tasks.sparse_probing.problem import ProbeData, Rng

Array = NDArray[np.float64]
Predict = Callable[[Array], Array]  # rows -> P(positive), [candidates, rows]

_MOST = 100  # components, and neighbours


@dataclass(frozen=True)
class Grid:
    """How much is tried: log2 steps of PCA and kNN, random boosting configurations, and the work of one fit."""

    steps: int
    boosters: int
    rounds: tuple[int, ...]
    epochs: int


# "full" follows the paper: 10 steps, 10 random configurations of 50 to 250 trees, one MLP.
GRIDS = {"small": Grid(5, 1, (50,), 200), "full": Grid(10, 10, (50, 100, 150, 200, 250), 1000)}


class Baseline(NamedTuple):
    """Scores of one method on one problem; NaN where they are not defined (one class)."""

    val_auc: float
    auc: float
    accuracy: float
    f1: float


def check_baselines(parameters: dict[str, Any]) -> None:
    """Raises UsageError for a method or a grid that does not exist."""
    for name in parameters["baselines"]:
        if name not in METHODS:
            raise UsageError(
                f"There is no baseline {name!r} beside the dense logistic probe; there are {', '.join(METHODS)}."
                f"{did_you_mean(name, METHODS)}"
            )
    if (grid := parameters["baseline_grid"]) not in GRIDS:
        raise UsageError(
            f"Parameter 'baseline_grid' must be one of {', '.join(GRIDS)}, not {grid!r}.{did_you_mean(grid, GRIDS)}"
        )


def baseline_scores(
    context: TaskContext, datasets: Sequence[Dataset], site: str, parameters: dict[str, Any]
) -> dict[str, NDArray[np.float64]]:
    """Validation and test AUC ``[2, datasets]`` of each method that ``parameters`` name, fitted once for all SAEs."""
    methods, grid = parameters["baselines"], GRIDS[parameters["baseline_grid"]]

    def fit() -> dict[str, NDArray[np.float64]]:
        found = {method: np.full((2, len(datasets)), np.nan) for method in methods}
        with context.progress.task(f"baselines at {site}", len(datasets), "datasets") as ticker:
            for column, dataset in enumerate(datasets):
                data = activations(context, dataset, site, parameters["context_length"], parameters["pooling"])
                for method in methods:
                    scores = evaluate_baseline(data, method, grid, context.rng)
                    found[method][:, column] = scores.val_auc, scores.auc
                ticker.advance()
        return found

    return context.shared(("sparse_probing", "baselines", site, json.dumps(parameters, sort_keys=True)), fit)


def evaluate_baseline(data: ProbeData, method: str, grid: Grid, rng: Rng) -> Baseline:
    """Choose a candidate of ``method`` by the folds that SAE probes use, refit, and test.

    Without folds (three training examples or fewer) the middle candidate is taken and ``val_auc`` is the training AUC,
    as for SAE probes.
    """
    propose, fit = METHODS[method]
    x, y = _rows(data.x_train), data.y_train.cpu().numpy().astype(bool)
    if not y.any() or y.all():
        return Baseline(*[float("nan")] * 4)
    draw = rng(f"baseline:{method}:{data.name}")
    masks = folds(y, rng(f"folds:{data.name}"))
    smallest = min((int(mask.sum()) for mask in masks), default=len(y))
    candidates = propose(smallest, x.shape[1], grid, draw)
    seed = int(draw.integers(2**31))
    with warnings.catch_warnings():
        # A network that stops at its last epoch is a candidate like any other.
        warnings.simplefilter("ignore", category=_convergence_warning())
        by_fold = [_auc(_standardised(fit, x[mask], y[mask], candidates, seed)(x[~mask]), y[~mask]) for mask in masks]
        validation = np.mean(by_fold, axis=0) if masks else np.empty(0)
        best = int(validation.argmax()) if masks else len(candidates) // 2
        predict = _standardised(fit, x, y, candidates[best : best + 1], seed)
        on_training = float(_auc(predict(x), y)[0])
        scores = torch.from_numpy(predict(_rows(data.x_test))[0])
    y_test, all_rows = data.y_test.cpu().bool(), torch.ones(len(scores), dtype=torch.bool)
    return Baseline(
        float(validation[best]) if masks else on_training,
        float(auc(scores, y_test, all_rows)),
        float(accuracy(scores > 0.5, y_test, all_rows)),
        float(weighted_f1(scores > 0.5, y_test, all_rows)),
    )


# ------------------------------------------------------------------ inside


def _rows(x: Any) -> Array:
    assert isinstance(x, Tensor)  # activations, not codes
    return x.cpu().numpy().astype(np.float64)


def _auc(scores: Array, y: NDArray[np.bool_]) -> Array:
    labels = torch.from_numpy(y)
    return auc(torch.from_numpy(scores), labels, torch.ones_like(labels)).numpy()


def _convergence_warning() -> type[Warning]:
    from sklearn.exceptions import ConvergenceWarning

    return ConvergenceWarning


def _standardised(
    fit: Callable[[Array, Any, Sequence[Any], int], Predict],
    x: Array,
    y: NDArray[np.bool_],
    candidates: Sequence[Any],
    seed: int,
) -> Predict:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    predict = fit(scaler.transform(x), y, candidates, seed)
    return lambda rows: predict(scaler.transform(rows))


def _log2_steps(most: int, steps: int) -> list[int]:
    return sorted({int(value) for value in np.logspace(0, np.log2(most), steps, base=2)})


def _component_counts(n: int, d: int, grid: Grid, rng: np.random.Generator) -> list[int]:
    return _log2_steps(min(n, d, _MOST), grid.steps)


def _pca(x: Array, y: NDArray[np.bool_], counts: Sequence[int], seed: int) -> Predict:
    """Logistic regression on the first components; one decomposition for all counts."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    pca = PCA(max(counts), svd_solver="full").fit(x)
    scores = pca.transform(x)
    models = [LogisticRegression(solver="newton-cholesky").fit(scores[:, :count], y) for count in counts]

    def predict(rows: Array) -> Array:
        seen = pca.transform(rows)
        pairs = zip(models, counts, strict=True)
        return np.stack([model.predict_proba(seen[:, :count])[:, 1] for model, count in pairs])

    return predict


def _neighbour_counts(n: int, d: int, grid: Grid, rng: np.random.Generator) -> list[int]:
    return _log2_steps(min(n - 1, _MOST), grid.steps)


def _knn(x: Array, y: NDArray[np.bool_], counts: Sequence[int], seed: int) -> Predict:
    """Share of positives among the nearest training examples; one search for all counts."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=max(counts)).fit(x)

    def predict(rows: Array) -> Array:
        positive = y[search.kneighbors(rows, return_distance=False)].cumsum(axis=1)
        return np.stack([positive[:, count - 1] / count for count in counts])

    return predict


def _one_network(n: int, d: int, grid: Grid, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One random configuration, as in the paper: width 16 to 64, 1 to 3 layers."""
    return [
        {
            "hidden_layer_sizes": (int(rng.choice([16, 32, 64])),) * int(rng.integers(1, 4)),
            "learning_rate_init": float(rng.choice(np.logspace(-4, -2, 5))),
            "alpha": float(rng.choice(np.logspace(-5, -2, 5))),
            "max_iter": grid.epochs,
        }
    ]


def _network(x: Array, y: NDArray[np.bool_], candidates: Sequence[dict[str, Any]], seed: int) -> Predict:
    from sklearn.neural_network import MLPClassifier

    return _each([MLPClassifier(**options, random_state=seed).fit(x, y) for options in candidates])


def _boosters(n: int, d: int, grid: Grid, rng: np.random.Generator) -> list[dict[str, Any]]:
    return [
        {
            "max_iter": int(rng.choice(grid.rounds)),
            "max_depth": int(rng.integers(2, 6)),
            "learning_rate": float(rng.choice(np.logspace(-2, -0.5, 7))),
            "l2_regularization": float(rng.choice(np.logspace(-3, 1, 9))),
            "min_samples_leaf": int(rng.integers(1, 10)),
            "max_features": float(rng.choice([0.1, 0.3, 1.0])),
        }
        for _ in range(grid.boosters)
    ]


def _boosting(x: Array, y: NDArray[np.bool_], candidates: Sequence[dict[str, Any]], seed: int) -> Predict:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    # 64 bins: a training set has a thousand rows at most. One thread: with more, most of the time is waiting for them.
    fixed = {"max_bins": 64, "early_stopping": False, "random_state": seed}
    with threadpool_limits(1, user_api="openmp"):
        return _each([HistGradientBoostingClassifier(**fixed, **options).fit(x, y) for options in candidates])


def _each(models: Sequence[Any]) -> Predict:
    return lambda rows: np.stack([model.predict_proba(rows)[:, 1] for model in models])


# Name -> (candidates for n training rows of d dimensions, fit of several candidates).
METHODS: dict[str, tuple[Callable[..., list[Any]], Callable[[Array, Any, Sequence[Any], int], Predict]]] = {
    "pca": (_component_counts, _pca),
    "knn": (_neighbour_counts, _knn),
    "mlp": (_one_network, _network),
    "boosting": (_boosters, _boosting),
}
