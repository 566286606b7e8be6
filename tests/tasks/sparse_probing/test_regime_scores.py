"""Regimes on planted and absent signal, without a language model: what is scored, what is not, and its means."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from saebench.errors import UsageError
from saebench.evaluation.task import TaskOutput
from saebench.stats.intervals import resampling_weights
from saebench.stats.rng import generator
from saebench.tasks.sparse_probing.problem import ProbeData, ProbeSettings, evaluate_dense, evaluate_sae
from saebench.tasks.sparse_probing.regime_scores import REGIME_KS, add_regime, check_regimes, regime_table, settings_of

D_SAE = 24
PARAMETERS = {
    "regimes": ["scarcity", "imbalance", "noise", "ood"],
    "scarcity_sizes": [2, 16, 64, 4096],
    "imbalance_shares": [0.1, 0.5, 0.9],
    "noise_shares": [0.0, 0.2, 0.5],
    "resamples": 3,
}
SETTINGS = ProbeSettings(penalty="l2", cs=(1.0, 0.01))


def rng(name):
    return generator(0, name)


def planted(number, strength=3.0, n=96, m=200):
    draw = np.random.default_rng(number)
    y = draw.permutation((n + m) // 2 * [True] + (n + m) // 2 * [False])
    x = draw.standard_normal((n + m, D_SAE)).clip(0)
    x[:, 5] += strength * y
    x, y = torch.from_numpy(x).float(), torch.from_numpy(y)
    return ProbeData(f"set {number}", x[:n], y[:n], x[n:], y[n:])


def sparse(problems):
    return evaluate_sae(problems, D_SAE, REGIME_KS, SETTINGS, rng)


def table(regime, read, n=3, evaluate=sparse):
    return regime_table(regime, n, read, evaluate, PARAMETERS, rng)


def test_more_examples_help_and_sizes_out_of_reach_are_not_scored():
    found = table("scarcity", planted)
    assert list(found) == ["n=2", "n=16", "n=64", "n=4096"]
    means = [float(found[setting].mean()) for setting in found]
    assert means[0] < means[1] < means[2]
    assert means[2] > 0.9
    assert np.isnan(found["n=4096"]).all()
    assert all(values.shape == (3, len(REGIME_KS)) for values in found.values())


def test_wrong_labels_hurt_and_half_of_them_wrong_leave_nothing():
    found = table("noise", planted, n=12)
    assert found["flipped=0"].mean() > found["flipped=0.2"].mean() > 0.75
    values = found["flipped=0.5"][:, 0]  # some draws are anticorrelated, so the spread over datasets is wide
    assert abs(values.mean() - 0.5) < 3 * values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("regime", PARAMETERS["regimes"])
def test_without_signal_every_setting_is_at_chance(regime):
    found = table(regime, lambda number: planted(number, strength=0), n=8)
    for values in found.values():
        column = values[np.isfinite(values[:, 0]), 0]
        assert len(column) in (0, 8)
        if len(column):
            assert abs(column.mean() - 0.5) < 4 * column.std(ddof=1) / np.sqrt(8)


def test_the_dense_probe_sees_the_same_draws():
    seen = {}
    for label, evaluate in (
        ("sparse", sparse),
        ("dense", lambda problems: evaluate_dense(problems, SETTINGS, rng)),
    ):
        rows = seen[label] = []

        def noted(problems, rows=rows, evaluate=evaluate):
            return evaluate(noting(problems, rows))

        assert table("imbalance", planted, evaluate=noted)["positive=0.1"].shape[0] == 3

    assert seen["sparse"] == seen["dense"]


def noting(problems, rows):
    for problem in problems:
        rows.append((problem.name, problem.x_train.sum().item(), problem.y_test.tolist()))
        yield problem


def output_of(tables, dense):
    context = SimpleNamespace(
        bootstrap_weights=lambda n, replicates: resampling_weights(n, replicates, rng("bootstrap"))
    )
    output = TaskOutput([])
    add_regime(output, "scarcity", tables, dense, context, 200)
    return output


def test_means_are_over_scored_datasets_and_settings_and_the_rest_is_counted():
    nan = np.nan
    tables = {"n=2": np.array([[0.5, 0.6], [0.7, 0.8]]), "n=8": np.array([[0.9, 1.0], [nan, nan]])}
    tables["n=64"] = np.full((2, 2), nan)
    dense = {setting: values[:, :1] for setting, values in tables.items()}
    output = output_of(tables, dense)
    values = {(m.metric, m.subset): m.value for m in output.measurements}
    assert values["scarcity_auc_k16", ""] == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert values["scarcity_auc_k128", "n=2"] == pytest.approx(0.7)
    assert values["scarcity_auc_k16", "n=8"] == pytest.approx(0.9)
    assert values["scarcity_auc_dense", ""] == values["scarcity_auc_k16", ""]
    (unreached,) = (m for m in output.measurements if (m.metric, m.subset) == ("scarcity_auc_k16", "n=64"))
    assert unreached.value is None
    assert "reaches" in unreached.not_scored
    assert output.counts == {"scarcity_settings": 6, "scarcity_not_scored": 3}
    np.testing.assert_allclose(output.arrays["scarcity_auc_k16.num"], [1.4, 0.7])
    np.testing.assert_allclose(output.arrays["scarcity_auc_k16.den"], [2, 1])


def test_every_regime_names_its_settings():
    assert settings_of("imbalance", PARAMETERS) == ["positive=0.1", "positive=0.5", "positive=0.9"]
    assert list(table("ood", planted)) == settings_of("ood", PARAMETERS) == [""]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"regimes": ["scarsity"]}, "Did you mean 'scarcity'"),
        ({"scarcity_sizes": []}, "is empty"),
        ({"scarcity_sizes": [1, 2]}, "2 or more"),
        ({"imbalance_shares": [0.5, 1.0]}, "between 0 and 1"),
        ({"noise_shares": [0.6]}, "0 to 0.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed, message):
    check_regimes(PARAMETERS)
    with pytest.raises(UsageError, match=message):
        check_regimes({**PARAMETERS, **changed})
