"""The quiver, the regimes and shifted test sets as the task measures them, on a tiny language model."""

import json

import numpy as np
import pytest

from saebench.data.labelled import Labelled
from saebench.errors import UsageError
from saebench.tasks.sparse_probing.data import datasets
from saebench.tasks.sparse_probing.settings import SparseProbingSettings
from saebench.tasks.sparse_probing.task import SparseProbingTask
from tests.tasks.conftest import topk_sae

SITE = "blocks.1.hook_resid_post"
PARAMETERS = {
    "datasets": ["letters", "other"],
    "k": [1, 16],
    "train_examples": 80,
    "test_examples": 40,
    "context_length": 16,
    "pooling": "last",
    "ranking": "mean_difference",
    "penalty": "l2",
    "scaling": "rms",
    "dense_scaling": "standard",
    "bootstrap_replicates": 100,
    "baselines": ["pca", "knn"],
    "baseline_grid": "small",
    "regimes": [],
    "scarcity_sizes": [8, 500],
    "imbalance_shares": [0.3, 0.7],
    "noise_shares": [0.0, 0.5],
    "resamples": 1,
}


def labelled(name, seed, n=160, classes=("0", "1")):
    """The last letter tells the class."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    texts = ["".join(draw.choice(list("abcdef"), 8)) + f"{number:04d}" + "xy"[y] for number, y in enumerate(labels)]
    return Labelled(f"asset:sae-probes/{name}", texts, labels, classes)


SETS = {
    "letters": labelled("letters", 0),
    "other": labelled("other", 1),
    "letters_OOD": labelled("letters_OOD", 2, n=50),
}


@pytest.fixture(autouse=True)
def in_memory(monkeypatch):
    def load(ref):
        return SETS[ref.removeprefix("asset:sae-probes/")]

    monkeypatch.setattr(datasets, "load_labelled", load)
    monkeypatch.setattr(datasets, "load_shifted", lambda original: SETS[f"{original.ref.split('/')[1]}_OOD"])
    monkeypatch.setattr(datasets, "shifted_names", lambda: ["letters"])


def settings(**changes):
    return SparseProbingSettings.parse({**PARAMETERS, **changes}, task="sparse_probing")


def run(context, seed=0, **changes):
    task, chosen = SparseProbingTask(), settings(**changes)
    task.prepare(context, chosen)
    return task.run(topk_sae(SITE, seed), context, chosen)


def values(output):
    return {(m.metric, m.subset): m.value for m in output.measurements}


def test_the_quiver_and_every_regime_are_measured(context):
    output = run(context(), regimes=["scarcity", "imbalance", "noise", "ood"])
    found = values(output)
    assert {subset for metric, subset in found if metric == "baseline_auc"} == {"logistic", "pca", "knn"}
    assert found["quiver_auc", ""] > 0.9
    assert found["quiver_gain", ""] == pytest.approx(float(output.arrays["quiver_gain.num"].mean()))
    assert 0 <= found["quiver_sae_share", ""] <= 1
    for probe in ("k16", "k128", "dense"):
        assert found[f"scarcity_auc_{probe}", "n=500"] is None
        assert 0 <= found[f"scarcity_auc_{probe}", "n=8"] <= 1
        assert {s for m, s in found if m == f"imbalance_auc_{probe}"} == {"", "positive=0.3", "positive=0.7"}
        assert {s for m, s in found if m == f"ood_auc_{probe}"} == {""}
    assert found["ood_auc_dense", ""] > 0.9, "the last letter tells the class there too"
    assert found["noise_auc_dense", "flipped=0"] == pytest.approx(found["auc_dense", ""], abs=0.05)
    assert output.counts["scarcity_settings"] == 4
    assert output.counts["scarcity_not_scored"] == 2
    json.dumps([m.model_dump() for m in output.measurements])


def test_what_does_not_depend_on_the_sae_is_computed_once(context):
    shared = context()
    regimes = ["noise"]
    first, second = (values(run(shared, seed, regimes=regimes)) for seed in (0, 1))
    same = [key for key in first if key[0] in ("baseline_auc", "quiver_auc", "noise_auc_dense")]
    assert [first[key] for key in same] == [second[key] for key in same]
    fresh = values(run(context(), 1, regimes=regimes))
    assert fresh == second, "and the order of SAEs changes nothing"


def test_shifted_examples_belong_to_the_data_that_are_hashed(context):
    task = SparseProbingTask()
    plain = task.data(context(), settings())
    with_shift = task.data(context(), settings(regimes=["ood"]))
    assert set(with_shift) - set(plain) == {"asset:sae-probes/letters_OOD"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baselines": ["pcaa"]}, "must be one of pca, knn, mlp, boosting, not 'pcaa'. Did you mean 'pca'"),
        ({"baselines": ["bosting"]}, "Did you mean 'boosting'"),
        ({"regimes": ["noisy"]}, "Did you mean 'noise'"),
        ({"baseline_grid": "medium"}, "must be one of small, full"),
        ({"baseline_grid": "fulll"}, "Did you mean 'full'"),
    ],
)
def test_an_unknown_baseline_regime_or_grid_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        settings(**changes)
