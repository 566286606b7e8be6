"""Probes on codes with a known answer, and that nothing is chosen by what it must not see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from saebench.sae.base import sparse_from_dense
from saebench.sae.protocol import SparseCodes
from saebench.stats.rng import generator
from saebench.tasks.sparse_probing.data.examples import ProbeData, take
from saebench.tasks.sparse_probing.scoring.probes import evaluate_dense, evaluate_sae
from saebench.tasks.sparse_probing.settings import SparseProbingSettings

L2 = SparseProbingSettings(penalty="l2")
L1 = SparseProbingSettings(penalty="l1")
CS = (100.0, 1.0, 0.01)


def rng(*drawn):
    return generator(0, *drawn)


def planted(seed=0, strength=2.0, n=80, m=100, d=30, latents=(7,)) -> ProbeData:
    draw = np.random.default_rng(seed)
    y = draw.permutation(np.arange(n + m) % 2 == 0)
    z = draw.normal(size=(n + m, d)).clip(0)
    z[:, list(latents)] += strength * y[:, None]
    x, labels = torch.from_numpy(z).float(), torch.from_numpy(y)
    return ProbeData(f"set {seed}", x[:n], labels[:n], x[n:], labels[n:])


def sparse(data: ProbeData) -> ProbeData:
    return data.encoded(sparse_from_dense)


@pytest.mark.parametrize("settings", [L1, L2])
def test_a_latent_that_is_the_label(settings):
    data = planted(strength=100.0)
    scores = evaluate_sae([sparse(data)], 30, [1, 4], settings, rng, CS)
    np.testing.assert_array_equal(scores.auc, [[1.0, 1.0]])
    np.testing.assert_array_equal(scores.accuracy, [[1.0, 1.0]])
    np.testing.assert_array_equal(scores.f1, [[1.0, 1.0]])
    assert scores.counts["unconverged_fits"] == 0


@pytest.mark.parametrize("settings", [L1, L2])
def test_no_signal_is_chance_in_validation_too(settings):
    """300 latents of noise: ranked on all training examples, the validation AUC would be far above chance."""
    problems = [sparse(planted(seed, strength=0.0, d=300)) for seed in range(8)]
    scores = evaluate_sae(problems, 300, [5], settings, rng, CS)
    assert abs(scores.auc.mean() - 0.5) < 0.05
    assert scores.val_auc.mean() < 0.62  # the best of three C is a little above
    assert scores.counts["fits"] == 8 * (6 * 3 + 1)


@pytest.mark.parametrize("settings", [L1, L2])
def test_test_examples_decide_nothing(settings):
    data = planted(latents=(3, 7, 9))
    other = replace(data, x_test=-3 * data.x_test, y_test=~data.y_test)
    one, two = (evaluate_sae([sparse(each)], 30, [1, 5], settings, rng, CS) for each in (data, other))
    np.testing.assert_array_equal(one.c, two.c)
    np.testing.assert_array_equal(one.val_auc, two.val_auc)


def test_sparse_and_dense_codes_and_other_k_give_the_same():
    problems = [planted(seed, 0.7, latents=(1, 2, 3)) for seed in range(3)]
    whole = evaluate_sae(problems, 30, [1, 2, 8], L1, rng, CS)
    for ks, column in (([1], 0), ([2], 1), ([8], 2)):
        found = evaluate_sae(map(sparse, problems), 30, ks, L1, rng, CS)
        for name in ("val_auc", "auc", "accuracy", "f1", "c"):
            np.testing.assert_allclose(getattr(found, name)[:, 0], getattr(whole, name)[:, column], atol=1e-9)


def test_k_beyond_the_latents_takes_all():
    found = evaluate_sae([planted(d=6, latents=(2,))], 6, [6, 50], L2, rng, CS)
    np.testing.assert_array_equal(found.auc[:, 0], found.auc[:, 1])


def test_constant_latents_are_counted():
    data = planted(d=6, latents=(2,))
    data.x_train[:, 4:], data.x_test[:, 4:] = 0.0, 0.0
    assert evaluate_sae([sparse(data)], 6, [6], L2, rng, CS).counts["constant_latents"] == 2


@pytest.mark.parametrize(("n", "d"), [(80, 20), (40, 90)])
def test_dense_probe_is_that_of_scikit_learn(n, d):
    data = planted(3, 0.5, n=n, d=d, latents=range(5))
    scale = np.sqrt(data.x_train.numpy().var(0).mean())
    model = LogisticRegression(C=0.3, tol=1e-9, max_iter=10_000).fit(data.x_train / scale, data.y_train)
    expected = roc_auc_score(data.y_test, model.decision_function(data.x_test / scale))
    np.testing.assert_allclose(evaluate_dense([data], "rms", rng, (0.3,)).auc, expected, atol=0.002)


def test_draws_of_a_dataset():
    data = sparse(planted())
    rows, flipped = torch.tensor([5, 2, 9]), torch.tensor([True, False, True])
    drawn = data.subset("again", train=rows, test=torch.tensor([0]), y_train=flipped)
    assert drawn.content == "again"
    torch.testing.assert_close(drawn.y_train, flipped)
    assert isinstance(drawn.x_train, SparseCodes)
    torch.testing.assert_close(drawn.x_train.values, data.x_train.values[rows])
    torch.testing.assert_close(drawn.y_test, data.y_test[:1])
    assert len(take(data.x_test, data.y_test).values) == int(data.y_test.sum())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree():
    def moved(data: ProbeData) -> ProbeData:
        parts = {name: getattr(data, name).cuda() for name in ("x_train", "y_train", "x_test", "y_test")}
        return replace(data, **parts)

    problems = [planted(seed, 0.5, latents=(1, 2, 3)) for seed in range(3)]
    for evaluate in (
        lambda them: evaluate_sae(them, 30, [1, 8], L1, rng, CS),
        lambda them: evaluate_dense(them, "rms", rng, CS),
    ):
        here, there = evaluate(problems), evaluate(map(moved, problems))
        np.testing.assert_allclose(here.auc, there.auc, atol=1e-6)
        np.testing.assert_allclose(here.c, there.c)
