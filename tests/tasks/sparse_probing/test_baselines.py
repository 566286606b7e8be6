"""Baselines: against scikit-learn's own estimators, on planted and on absent signal, and that no test label leaks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saebench.stats.probes.folds import folds
from saebench.stats.rng import generator
from saebench.tasks.sparse_probing.data.examples import ProbeData
from saebench.tasks.sparse_probing.scoring.baselines import evaluate_baseline
from saebench.tasks.sparse_probing.scoring.classifiers import CLASSIFIERS, GRIDS, Grid

SMALL = Grid(steps=4, boosters=1, rounds=(40,), epochs=200)
SHORT = Grid(steps=3, boosters=1, rounds=(5,), epochs=10)
SCALES = np.array([1000.0, 1, 1, 0.001, 1, 1, 1, 0])  # as different as those of activations; one dimension is constant


def rng(*drawn):
    return generator(0, *drawn)


def planted(n=160, m=300, strength=2.0, seed=0, content="set"):
    draw = np.random.default_rng(seed)
    y = draw.random(n + m) < 0.5
    x = draw.standard_normal((n + m, len(SCALES)))
    x[:, 1:4] += strength * (y[:, None] - 0.5)
    x, y = torch.from_numpy((x * SCALES).astype(np.float32)), torch.from_numpy(y)
    return ProbeData(content, x[:n], y[:n], x[n:], y[n:])


@pytest.mark.parametrize("method", CLASSIFIERS)
def test_a_planted_signal_is_found(method):
    found = evaluate_baseline(planted(), method, SMALL, rng)
    assert found.auc > 0.9
    assert found.val_auc > 0.8
    assert min(found.accuracy, found.f1) > 0.8


@pytest.mark.parametrize("method", CLASSIFIERS)
def test_without_signal_the_test_auc_is_at_chance(method):
    aucs = [evaluate_baseline(planted(strength=0, seed=s, content=f"{s}"), method, SHORT, rng).auc for s in range(4)]
    stderr = np.sqrt(601 / (12 * 150 * 150) / 4)  # of the mean of Mann-Whitney statistics under the null
    assert abs(np.mean(aucs) - 0.5) < 4 * stderr


@pytest.mark.parametrize("method", CLASSIFIERS)
def test_the_same_seed_gives_the_same_numbers_and_test_labels_choose_nothing(method):
    data = planted(strength=0.7)
    found = evaluate_baseline(data, method, SHORT, rng)
    assert evaluate_baseline(data, method, SHORT, rng) == found
    flipped = evaluate_baseline(replace(data, y_test=~data.y_test), method, SHORT, rng)
    assert flipped.val_auc == found.val_auc
    assert flipped.auc == pytest.approx(1 - found.auc)


def sklearn_choice(data, candidates):
    """Validation AUC of each (a pipeline), and the test scores of the best, by scikit-learn alone."""
    x, y = data.x_train.double().numpy(), data.y_train.numpy()
    (mask,) = folds(y, rng("folds", data.content))

    def predicted(model, rows, seen):
        return model.fit(x[rows], y[rows]).predict_proba(seen)[:, 1]

    val = [roc_auc_score(y[~mask], predicted(model, mask, x[~mask])) for model in candidates]
    scores = predicted(candidates[int(np.argmax(val))], slice(None), data.x_test.double().numpy())
    truth = data.y_test.numpy()
    return (
        max(val),
        roc_auc_score(truth, scores),
        accuracy_score(truth, scores > 0.5),
        f1_score(truth, scores > 0.5, average="weighted"),
    )


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_pca_and_knn_are_those_of_scikit_learn(strength):
    data = planted(strength=strength)
    pca = [
        make_pipeline(StandardScaler(), PCA(count, random_state=0), LogisticRegression(max_iter=1000, tol=1e-8))
        for count in (1, 2, 4, 8)
    ]
    full = GRIDS["full"]
    small_pca = evaluate_baseline(data, "pca", replace(full, steps=4), rng)
    np.testing.assert_allclose(small_pca, sklearn_choice(data, pca), atol=1e-6)
    counts = sorted({int(count) for count in np.logspace(0, np.log2(100), 10, base=2)})
    knn = [make_pipeline(StandardScaler(), KNeighborsClassifier(count)) for count in counts]
    np.testing.assert_allclose(evaluate_baseline(data, "knn", full, rng), sklearn_choice(data, knn), atol=1e-6)


@pytest.mark.parametrize("method", CLASSIFIERS)
@pytest.mark.parametrize("n", [2, 6, 20])
def test_tiny_training_sets_have_a_score(method, n):
    data = planted(n=40)
    sides = [data.y_train.nonzero()[:, 0], (~data.y_train).nonzero()[:, 0]]
    drawn = data.subset(f"tiny {n}", train=torch.cat([side[: n // 2] for side in sides]))
    found = evaluate_baseline(drawn, method, SHORT, rng)
    assert 0 <= found.val_auc <= 1
    assert 0 <= found.auc <= 1


@pytest.mark.parametrize("side", ["y_train", "y_test"])
def test_one_class_is_not_scored(side):
    data = planted(n=40)
    found = evaluate_baseline(replace(data, **{side: torch.ones_like(getattr(data, side))}), "pca", SMALL, rng)
    assert np.isnan(found.auc)
    assert np.isnan(found.val_auc) == (side == "y_train")
