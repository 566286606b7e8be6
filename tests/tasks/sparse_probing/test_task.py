"""The task as a whole on a tiny language model: against a plain scikit-learn pipeline, its controls, bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from saebench.cards.card import cards_dir, load_card
from saebench.data.labelled import load_labelled, parse_labelled_ref, split_labelled
from saebench.errors import DataError, SaebenchError, UsageError
from saebench.evaluation.task import TaskOutput
from saebench.leaderboard.ranking import Column, rank
from saebench.passes.context import TaskContext
from saebench.results.paired import scores
from saebench.sae.baselines import NeuronBaseline, PermutedDecoderBaseline
from saebench.sae.codes import Coder
from saebench.sae.protocol import HookSite
from saebench.stats.probes.folds import folds
from saebench.tasks.sparse_probing.data import datasets
from saebench.tasks.sparse_probing.data.examples import read_activations, read_latents
from saebench.tasks.sparse_probing.report import probing_report, report_mean
from saebench.tasks.sparse_probing.scoring.probes import C_GRID
from saebench.tasks.sparse_probing.settings import SparseProbingSettings
from saebench.tasks.sparse_probing.task import SparseProbingTask
from tests.conftest import WIDTH
from tests.results.conftest import make_identity, make_record
from tests.tasks.conftest import assert_units, topk_sae

SITE = "blocks.1.hook_resid_post"
CARD = load_card(cards_dir() / "sparse_probing.yaml")
Make = Callable[..., TaskContext]


def _write(folder: Path, name: str, seed: int, classes: str = "xy", n: int = 150) -> str:
    """Prompts whose last letter tells the class three times in four."""
    rng = np.random.default_rng(seed)
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "target"])
        for number in range(n):
            target = classes[number % len(classes)]
            said = target if rng.random() < 0.75 else rng.choice(list(classes))
            writer.writerow(["".join(rng.choice(list("abcdefgh "), rng.integers(3, 9))) + f"{number}{said}", target])
    return f"csv:{path}"


@pytest.fixture(scope="module")
def refs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("labelled")
    return [_write(folder, name, seed) for seed, name in enumerate(("one", "two", "three"))]


@pytest.fixture
def parameters(refs: list[str]) -> dict[str, Any]:
    given = {"datasets": refs, "train_examples": 60, "test_examples": 40, "k": [1, 4, 16], "penalty": "l2"}
    return CARD.resolve("smoke", given)


def parse(parameters: dict[str, Any], **changes: Any) -> SparseProbingSettings:
    return SparseProbingSettings.parse({**parameters, **changes}, task="sparse_probing")


def run(sae: Any, context: TaskContext, parameters: dict[str, Any]) -> TaskOutput:
    task, settings = SparseProbingTask(), parse(parameters)
    task.prepare(context, settings)
    return task.run(sae, context, settings)


def values(output: TaskOutput) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.subset): m.value for m in output.measurements}


def _choose(fit: Callable[[np.ndarray, float], tuple[np.ndarray, Any]], masks: list[np.ndarray], y: np.ndarray) -> Any:
    """The fit on everything with the C of the best mean validation AUC; ``fit(mask, c)`` gives all margins."""
    means = [np.mean([roc_auc_score(y[~mask], fit(mask, c)[0][: len(y)][~mask]) for mask in masks]) for c in C_GRID]
    return fit(np.ones(len(y), bool), C_GRID[int(np.argmax(np.round(means, 9)))])


@pytest.mark.parametrize("seed", range(3))
def test_one_dataset_against_a_plain_pipeline(context: Make, parameters: dict[str, Any], tmp_path: Path, seed: int):
    sae, made, n = topk_sae(SITE), context("gpt2"), 140
    ref = _write(tmp_path, "large", seed, n=200)
    sizes = {"train_examples": n, "test_examples": 60}
    found = values(run(sae, made, {**parameters, **sizes, "datasets": [ref]}))

    labelled = load_labelled(ref)
    train, test = split_labelled(labelled, made.rng("sparse_probing", labelled.content_hash), train=n, test=60)
    rows = np.concatenate([train, test])
    texts, y = [labelled.texts[row] for row in rows], labelled.labels[rows] == 1
    x = []
    for text in texts:
        tokens = torch.tensor(
            [[made.lm.tokenizer.bos_token_id, *made.lm.tokenizer(text, add_special_tokens=False)["input_ids"]]]
        )
        x.append(made.lm.prefix(tokens[:, -16:], [SITE])[SITE][0, -1])
    z, dense = sae.encode(torch.stack(x)).detach().double().numpy(), torch.stack(x).double().numpy()
    masks = folds(y[:n], made.rng("folds", labelled.content_hash))

    def probe(features: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Any]:
        def fit(mask: np.ndarray, c: float) -> tuple[np.ndarray, Any]:
            chosen = features(mask)
            model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10, max_iter=200)
            return model.fit(chosen[:n][mask], y[:n][mask]).decision_function(chosen), model

        return fit

    for k in (1, 4, 16):

        def top(mask: np.ndarray, k: int = k) -> np.ndarray:
            seen, said = z[:n][mask], y[:n][mask]
            size = np.abs(seen).sum(0) / np.maximum((seen != 0).sum(0), 1)
            difference = (seen[said].mean(0) - seen[~said].mean(0)) / np.where(size > 0, size, 1)
            best = z[:, np.argsort(-np.abs(difference), kind="stable")[:k]]
            return best / np.sqrt(best[:n][mask].var(0).mean())

        margins = _choose(probe(top), masks, y[:n])[0][n:]
        assert found[f"auc_k{k}", ""] == pytest.approx(roc_auc_score(y[n:], margins), abs=0.005)
        assert found[f"accuracy_k{k}", ""] == pytest.approx(accuracy_score(y[n:], margins > 0), abs=0.02)
        assert found[f"f1_k{k}", ""] == pytest.approx(f1_score(y[n:], margins > 0, average="weighted"), abs=0.02)
    margins = _choose(probe(lambda mask: dense / dense[:n].std(0)), masks, y[:n])[0][n:]
    assert found["auc_dense", ""] == pytest.approx(roc_auc_score(y[n:], margins), abs=0.005)


def test_numbers_hang_together(context: Make, parameters: dict[str, Any], refs: list[str]):
    output = run(topk_sae(SITE), context("gemma3"), parameters)
    found = values(output)
    assert {metric for metric, _ in found} <= {metric.id for metric in CARD.metrics}
    names = output.notes["datasets"]
    assert set(names) == {Path(ref).stem for ref in refs}
    for k in (1, 4, 16):
        num, den = output.arrays[f"auc_k{k}.num"], output.arrays[f"auc_k{k}.den"]
        assert found[f"auc_k{k}", ""] == pytest.approx(num.sum() / den.sum())
        np.testing.assert_allclose(num, [found[f"auc_k{k}", name] for name in names])
    assert found["gain_over_dense_k16", ""] == pytest.approx(found["auc_k16", ""] - found["auc_dense", ""])
    headline = next(m for m in output.measurements if m.metric == "auc_k16" and not m.subset)
    assert (headline.n, headline.unit) == (3, "dataset")
    assert headline.ci_low is None  # fewer than six datasets have no interval
    assert (
        output.counts | {"datasets": 3, "not_scored": 0, "train_examples": 180, "test_examples": 120} == output.counts
    )
    assert output.counts["unconverged_fits"] == 0
    json.dumps([m.model_dump() for m in output.measurements])


def test_neurons_are_not_above_themselves(context: Make, parameters: dict[str, Any]):
    neurons = NeuronBaseline(WIDTH, name="neurons", hook=HookSite.at(SITE))
    made = context("gpt2")
    own, other = run(neurons, made, parameters), values(run(topk_sae(SITE), made, parameters))
    for k in (1, 16):
        assert values(own)[f"auc_k{k}_over_neurons", ""] == 0
        assert values(own)[f"auc_k{k}", ""] == values(own)[f"auc_k{k}_neurons", ""] == other[f"auc_k{k}_neurons", ""]
        expected = other[f"auc_k{k}", ""] - other[f"auc_k{k}_neurons", ""]
        assert other[f"auc_k{k}_over_neurons", ""] == pytest.approx(expected)
    assert len(own.arrays["auc_k16_over_neurons.num"]) == 3  # a contribution for each dataset


def test_two_saes_are_ranked_by_pairs_although_their_intervals_overlap(context: Make):
    """One is better by about 0.02 on each of 12 datasets, which differ by far more."""
    made, rng = context("gpt2"), np.random.default_rng(0)
    auc = rng.uniform(0.55, 0.95, 12)
    scored = []
    for values_of_sae in (auc, auc - 0.02 + rng.normal(0, 0.005, 12)):
        report = probing_report(CARD, made, parse({}))
        report_mean(report, "auc_k16", values_of_sae)
        report.units("dataset", [f"dataset {number}" for number in range(12)])
        output = report.output()
        record = make_record(make_identity(), measurements=output.measurements, units=output.units)
        scored.append(scores(record, output.arrays)[record.identity.task, "auc_k16", ""])
    better, worse = scored
    assert better.ci_low is not None
    assert worse.ci_high is not None
    assert worse.ci_high > better.value > worse.value > better.ci_low
    assert len(better.units) > 0
    ranking = rank([Column("sparse_probing", "auc_k16", True, (worse, better))], [True, True])
    assert [(r.place, r.shared_to) for r in ranking.ranks if r is not None] == [(2, 2), (1, 1)]


def test_a_k_that_the_card_does_not_list_is_measured_too(context: Make, parameters: dict[str, Any]):
    found = values(run(topk_sae(SITE), context("gpt2"), {**parameters, "k": [3]}))
    assert {"auc_k3", "accuracy_k3", "f1_k3"} <= {metric for metric, _ in found}
    assert "auc_k3" not in {metric.id for metric in CARD.metrics}


def test_signal_is_found_and_shuffled_labels_are_chance(
    context: Make, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    signal = values(run(topk_sae(SITE), context("gpt2"), parameters))
    assert signal["auc_dense", ""] > 0.75
    assert signal["auc_k16", ""] > 0.6

    def shuffled(ref: str) -> Any:
        loaded = load_labelled(ref)
        return replace(loaded, labels=np.random.default_rng(0).permutation(loaded.labels))

    monkeypatch.setattr(datasets, "load_labelled", shuffled)
    noise = run(topk_sae(SITE), context("gpt2"), parameters)
    for metric in ("auc_k1", "auc_k16", "auc_dense"):
        # 120 test examples: a standard error of 0.053
        assert abs(values(noise)[metric, ""] - 0.5) < 0.16


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_controls(context: Make, parameters: dict[str, Any], pooling: str):
    """A permuted decoder changes nothing, whatever is fitted in between; neurons read the activation itself."""
    made = context("gpt2")
    changed = {**parameters, "pooling": pooling, "k": [1, 16, WIDTH], "scaling": "none", "dense_scaling": "none"}
    inner = topk_sae(SITE)
    one = run(inner, made, changed)
    neurons = run(NeuronBaseline(WIDTH, name="neurons", hook=HookSite.at(SITE)), made, changed)
    two = run(PermutedDecoderBaseline(inner, name="permuted", seed=1), made, changed)
    assert values(one) == values(two)
    assert values(neurons)["auc_dense", ""] == values(one)["auc_dense", ""]
    assert values(neurons)[f"auc_k{WIDTH}", ""] == pytest.approx(values(one)["auc_dense", ""], abs=0.005)


def test_mean_pooling_averages_latents_over_tokens(context: Make, parameters: dict[str, Any]):
    made, sae = context("gpt2"), topk_sae(SITE)
    settings = parse(parameters, pooling="mean")
    (dataset, *_) = datasets.load_datasets(made, settings.datasets, settings)
    found = read_latents(made, dataset, Coder(sae, 10**7), settings)
    tokens = made.lm.tokenizer(dataset.texts[0], add_special_tokens=False)["input_ids"][-15:]
    x = made.lm.prefix(torch.tensor([[made.lm.tokenizer.bos_token_id, *tokens]]), [SITE])[SITE][0, 1:]
    torch.testing.assert_close(found.x_train[0], sae.encode(x).detach().mean(0), rtol=1e-4, atol=1e-5)
    assert not torch.equal(read_activations(made, dataset, SITE, settings).x_train[0], x[-1])


def test_latents_that_are_not_numbers_stop_the_task(context: Make, parameters: dict[str, Any]):
    sae = topk_sae(SITE)
    sae.sae.W_enc.data[:] = torch.inf
    with pytest.raises(SaebenchError, match="NaN or Inf on dataset"):
        run(sae, context("gpt2"), parameters)


def test_small_datasets_shrink_and_tiny_ones_are_refused(context: Make, parameters: dict[str, Any], tmp_path: Path):
    made = context("gpt2")
    settings = parse(parameters)
    (small,) = datasets.load_datasets(made, [_write(tmp_path, "small", 0, n=80)], settings)
    assert (small.n_train, len(small.y)) == (54, 80)
    with pytest.raises(DataError, match="too few"):
        datasets.load_datasets(made, [_write(tmp_path, "tiny", 0, n=30)], settings)
    with pytest.raises(DataError, match="3 classes"):
        datasets.load_datasets(made, [_write(tmp_path, "three", 0, "xyz")], settings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"datasets": []}, "'datasets' of task 'sparse_probing' is empty"),
        ({"datasets": ["5_hist_fig_ismal"]}, "5_hist_fig_ismale"),
        ({"k": [0, 4]}, "at least 1, not 0"),
        ({"k": []}, "'k' of task 'sparse_probing' is empty"),
        ({"pooling": "first"}, "last, mean"),
        ({"penalty": "l3"}, "l1, l2"),
    ],
)
def test_mistakes_are_told_before_anything_runs(context: Make, parameters: dict[str, Any], changes, said):
    with pytest.raises(UsageError, match=said):
        SparseProbingTask().prepare(context("gpt2"), parse(parameters, **changes))


def test_a_dataset_named_twice_is_refused(context: Make, parameters: dict[str, Any], refs: list[str]):
    with pytest.raises(UsageError, match="each value once"):
        parse(parameters, datasets=[refs[0], refs[0]])
    settings = parse(parameters, datasets=["54_cs_tf", "asset:sae-probes/54_cs_tf"])
    with pytest.raises(UsageError, match="named twice"):
        SparseProbingTask().prepare(context("gpt2"), settings)


def test_every_preset_resolves_and_names_datasets_that_exist():
    for preset in ("smoke", "quick"):
        chosen = CARD.resolve(preset)
        assert len(datasets.dataset_refs(chosen["datasets"])) == {"smoke": 2, "quick": 12}[preset]
        for ref in datasets.dataset_refs(chosen["datasets"]):
            parse_labelled_ref(ref)


def test_units_are_the_drawn_examples_of_the_datasets(context: Make, parameters: dict[str, Any]):
    one, two = (run(topk_sae(SITE, seed), context("gpt2"), parameters) for seed in range(2))
    other = run(topk_sae(SITE), context("gpt2", seed=1), parameters)
    assert_units(one, same=two, other=other, differ={"dataset"})
    reordered = run(topk_sae(SITE), context("gpt2"), {**parameters, "datasets": parameters["datasets"][::-1]})
    assert reordered.units == one.units
