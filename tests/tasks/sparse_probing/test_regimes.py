"""Regimes on planted and absent signal, without a language model: what is scored, what is not, and the means."""

from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch

from saebench.cards.card import cards_dir, load_card
from saebench.errors import UsageError
from saebench.evaluation import Report
from saebench.stats.intervals import resampling_weights
from saebench.stats.rng import generator
from saebench.tasks.sparse_probing.data.draws import levels
from saebench.tasks.sparse_probing.data.examples import ProbeData
from saebench.tasks.sparse_probing.report import report_regime
from saebench.tasks.sparse_probing.scoring.probes import evaluate_dense, evaluate_sae
from saebench.tasks.sparse_probing.scoring.regimes import REGIME_KS, score_levels
from saebench.tasks.sparse_probing.settings import Regime, SparseProbingSettings

D_SAE = 24
PARAMETERS = {
    "regimes": list(get_args(Regime)),
    "scarcity_sizes": [2, 16, 64, 4096],
    "imbalance_shares": [0.1, 0.5, 0.9],
    "noise_shares": [0.0, 0.2, 0.5],
    "resamples": 3,
    "penalty": "l2",
}
SETTINGS = SparseProbingSettings.parse(PARAMETERS, task="sparse_probing")
CS = (1.0, 0.01)


def rng(*drawn):
    return generator(0, *drawn)


def planted(number, strength=3.0, n=96, m=200):
    draw = np.random.default_rng(number)
    y = draw.permutation((n + m) // 2 * [True] + (n + m) // 2 * [False])
    x = draw.standard_normal((n + m, D_SAE)).clip(0)
    x[:, 5] += strength * y
    x, y = torch.from_numpy(x).float(), torch.from_numpy(y)
    return ProbeData(f"set {number}", x[:n], y[:n], x[n:], y[n:])


def sparse(problems):
    return evaluate_sae(problems, D_SAE, REGIME_KS, SETTINGS, rng, CS)


def table(regime, read, n=3, evaluate=sparse):
    return score_levels(regime, map(read, range(n)), evaluate, SETTINGS, rng)


def test_more_examples_help_and_sizes_out_of_reach_are_not_scored():
    found = table("scarcity", planted)
    assert list(found) == ["n=2", "n=16", "n=64", "n=4096"]
    means = [float(found[level].mean()) for level in found]
    assert means[0] < means[1] < means[2]
    assert means[2] > 0.9
    assert np.isnan(found["n=4096"]).all()
    assert all(values.shape == (3, len(REGIME_KS)) for values in found.values())


def test_wrong_labels_hurt_and_half_of_them_wrong_leave_nothing():
    found = table("noise", planted, n=12)
    assert found["flipped=0"].mean() > found["flipped=0.2"].mean() > 0.75
    values = found["flipped=0.5"][:, 0]  # some draws are anticorrelated, so the spread over datasets is wide
    assert abs(values.mean() - 0.5) < 3 * values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("regime", get_args(Regime))
def test_without_signal_every_level_is_at_chance(regime):
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
        ("dense", lambda problems: evaluate_dense(problems, "rms", rng, CS)),
    ):
        rows = seen[label] = []

        def noted(problems, rows=rows, evaluate=evaluate):
            return evaluate(noting(problems, rows))

        assert table("imbalance", planted, evaluate=noted)["positive=0.1"].shape[0] == 3

    assert seen["sparse"] == seen["dense"]


def noting(problems, rows):
    for problem in problems:
        rows.append((problem.content, problem.x_train.sum().item(), problem.y_test.tolist()))
        yield problem


def output_of(sparse, dense):
    context = SimpleNamespace(
        bootstrap_weights=lambda n, replicates: resampling_weights(n, replicates, rng("bootstrap"))
    )
    report = Report(load_card(cards_dir() / "sparse_probing.yaml"), context, 200)
    report_regime(report, "scarcity", sparse, dense)
    return report.output()


def test_means_are_over_scored_datasets_and_levels_and_the_rest_is_counted():
    nan = np.nan
    tables = {"n=2": np.array([[0.5, 0.6], [0.7, 0.8]]), "n=8": np.array([[0.9, 1.0], [nan, nan]])}
    tables["n=64"] = np.full((2, 2), nan)
    dense = {level: values[:, :1] for level, values in tables.items()}
    output = output_of(tables, dense)
    values = {(m.metric, m.subset): m.value for m in output.measurements}
    assert values["scarcity_auc_k16", ""] == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert values["scarcity_auc_k128", "n=2"] == pytest.approx(0.7)
    assert values["scarcity_auc_k16", "n=8"] == pytest.approx(0.9)
    assert values["scarcity_auc_dense", ""] == values["scarcity_auc_k16", ""]
    (unreached,) = (m for m in output.measurements if (m.metric, m.subset) == ("scarcity_auc_k16", "n=64"))
    assert unreached.value is None
    assert unreached.not_scored == "no dataset has enough examples for this level"
    assert output.counts == {"scarcity_settings": 6, "scarcity_not_scored": 3, "not_scored": 3}
    np.testing.assert_allclose(output.arrays["scarcity_auc_k16.num"], [1.4, 0.7])
    np.testing.assert_allclose(output.arrays["scarcity_auc_k16.den"], [2, 1])


def test_every_regime_names_its_levels():
    assert levels("imbalance", SETTINGS) == ["positive=0.1", "positive=0.5", "positive=0.9"]
    assert list(table("ood", planted)) == levels("ood", SETTINGS) == [""]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"regimes": ["scarsity"]}, "Did you mean 'scarcity'"),
        ({"scarcity_sizes": []}, "The regime 'scarcity' needs a value in 'scarcity_sizes', which is empty"),
        ({"scarcity_sizes": [1, 2]}, "must be at least 2, not 1"),
        ({"imbalance_shares": [0.5, 1.0]}, "must be below 1, not 1.0"),
        ({"imbalance_shares": [0.0, 0.5]}, "must be above 0, not 0.0"),
        ({"regimes": ["noise", "noise"]}, "each value once"),
        ({"noise_shares": [0.6]}, "must be at most 0.5, not 0.6"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed, message):
    with pytest.raises(UsageError, match=message):
        SparseProbingSettings.parse({**PARAMETERS, **changed}, task="sparse_probing")


def test_an_empty_list_of_levels_matters_to_its_regime_alone():
    SparseProbingSettings.parse({"regimes": ["noise"], "scarcity_sizes": []}, task="sparse_probing")
