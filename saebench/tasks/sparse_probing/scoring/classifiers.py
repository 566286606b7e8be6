"""The classifiers on whole activations that 2502.16681 sets beside the logistic probe, by scikit-learn.

Each has candidates, such as numbers of components or random configurations, and a function that fits several of them
to the same rows. scikit-learn is imported when a classifier is fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saebench.tasks.sparse_probing.settings import BaselineMethod, GridSize

Array = NDArray[np.float64]
Labels = NDArray[np.bool_]
Predict = Callable[[Array], Array]  # rows -> P(positive), [candidates, rows]

_MOST = 100  # components, and neighbours


@dataclass(frozen=True)
class Grid:
    """How much is tried."""

    steps: int  # values of the number of PCA components and of neighbours, evenly spaced on a log2 scale
    boosters: int  # random configurations of boosting
    rounds: tuple[int, ...]  # numbers of trees that boosting draws from
    epochs: int  # of the network, at most


# "full" follows the paper: 10 steps, 10 random configurations of 50 to 250 trees, one MLP.
GRIDS: dict[GridSize, Grid] = {
    "small": Grid(5, 1, (50,), 200),
    "full": Grid(10, 10, (50, 100, 150, 200, 250), 1000),
}


class Classifier(NamedTuple):
    """A kind of classifier."""

    # Training rows, their dimensions, the grid, a generator -> candidates.
    candidates: Callable[[int, int, Grid, np.random.Generator], list[Any]]
    # Standardised rows, labels, candidates, a seed -> predictions of every candidate.
    fit: Callable[[Array, Labels, Sequence[Any], int], Predict]


def _log2_steps(most: int, steps: int) -> list[int]:
    return sorted({int(value) for value in np.logspace(0, np.log2(most), steps, base=2)})


def _component_counts(n: int, d: int, grid: Grid, rng: np.random.Generator) -> list[int]:
    return _log2_steps(min(n, d, _MOST), grid.steps)


def _pca(x: Array, y: Labels, counts: Sequence[int], seed: int) -> Predict:
    """Logistic regression on the first components; one decomposition serves all counts."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    pca = PCA(max(counts), svd_solver="full").fit(x)
    components = pca.transform(x)
    models = [LogisticRegression(solver="newton-cholesky").fit(components[:, :count], y) for count in counts]

    def predict(rows: Array) -> Array:
        components = pca.transform(rows)
        pairs = zip(models, counts, strict=True)
        return np.stack([model.predict_proba(components[:, :count])[:, 1] for model, count in pairs])

    return predict


def _neighbour_counts(n: int, d: int, grid: Grid, rng: np.random.Generator) -> list[int]:
    return _log2_steps(min(n - 1, _MOST), grid.steps)


def _knn(x: Array, y: Labels, counts: Sequence[int], seed: int) -> Predict:
    """The share of positives among the nearest training examples; one search serves all counts."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=max(counts)).fit(x)

    def predict(rows: Array) -> Array:
        positive = y[search.kneighbors(rows, return_distance=False)].cumsum(axis=1)
        return np.stack([positive[:, count - 1] / count for count in counts])

    return predict


def _one_network(n: int, d: int, grid: Grid, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One random configuration, as in the paper: 1 to 3 layers of width 16 to 64."""
    return [
        {
            "hidden_layer_sizes": (int(rng.choice([16, 32, 64])),) * int(rng.integers(1, 4)),
            "learning_rate_init": float(rng.choice(np.logspace(-4, -2, 5))),
            "alpha": float(rng.choice(np.logspace(-5, -2, 5))),
            "max_iter": grid.epochs,
        }
    ]


def _network(x: Array, y: Labels, configurations: Sequence[dict[str, Any]], seed: int) -> Predict:
    from sklearn.neural_network import MLPClassifier

    return _predictions([MLPClassifier(**options, random_state=seed).fit(x, y) for options in configurations])


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


def _boosting(x: Array, y: Labels, configurations: Sequence[dict[str, Any]], seed: int) -> Predict:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    # A training set has about a thousand rows at most, so 64 bins are enough, and several threads would mostly wait
    # for each other.
    fixed = {"max_bins": 64, "early_stopping": False, "random_state": seed}
    with threadpool_limits(1, user_api="openmp"):
        return _predictions(
            [HistGradientBoostingClassifier(**fixed, **options).fit(x, y) for options in configurations]
        )


def _predictions(models: Sequence[Any]) -> Predict:
    return lambda rows: np.stack([model.predict_proba(rows)[:, 1] for model in models])


CLASSIFIERS: dict[BaselineMethod, Classifier] = {
    "pca": Classifier(_component_counts, _pca),
    "knn": Classifier(_neighbour_counts, _knn),
    "mlp": Classifier(_one_network, _network),
    "boosting": Classifier(_boosters, _boosting),
}
