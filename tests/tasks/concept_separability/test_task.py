"""The whole task on tiny models: its output, controls that must agree, and inputs that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saebench.cards.card import cards_dir, load_card
from saebench.data.labelled import load_labelled
from saebench.errors import DataError, SaebenchError, UsageError
from saebench.evaluation import TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.baselines import NeuronBaseline, PermutedDecoderBaseline
from saebench.sae.protocol import HookSite
from saebench.stats.intervals import ratio
from saebench.tasks.concept_separability import data
from saebench.tasks.concept_separability.data import GROUPS, ConceptSet, concept_set, concept_sets
from saebench.tasks.concept_separability.scoring.pooling import pooled
from saebench.tasks.concept_separability.settings import ConceptSeparabilitySettings, Pooling
from saebench.tasks.concept_separability.task import ConceptSeparabilityTask
from tests.conftest import WIDTH
from tests.tasks.concept_separability.conftest import CONCEPTS, rows, write
from tests.tasks.conftest import assert_units, topk_sae

SITE = "blocks.1.hook_resid_post"
THREE = "30"  # the name of the file that ``dataset(30)`` writes
CARD = load_card(cards_dir() / "concept_separability.yaml")

Make = Callable[..., TaskContext]
Dataset = Callable[..., str]
Settings = Callable[..., ConceptSeparabilitySettings]


def values(output: TaskOutput, subset: str = "") -> dict[str, float | None]:
    return {m.metric: m.value for m in output.measurements if m.subset == subset}


def neurons() -> NeuronBaseline:
    return NeuronBaseline(WIDTH, name="n", hook=HookSite.at(SITE))


def test_every_metric_of_the_card_for_all_and_for_each_dataset(
    context: Make, dataset: Dataset, settings: Settings, tmp_path: Path
):
    refs = [dataset(30), write(tmp_path / "two.csv", rows(30, seed=5, concepts=CONCEPTS[:2]))]
    output = ConceptSeparabilityTask().run(topk_sae(SITE), context(), settings(*refs))
    ids = sorted(metric.id for metric in CARD.metrics)
    for subset in ("", THREE, "two"):
        assert sorted(values(output, subset)) == ids
    assert set(values(output, f"{THREE}/bread")) == {"separability_one_vs_rest", "separability_top10"}
    for m in output.measurements:
        spec = CARD.metric(m.metric)
        assert m.value is not None
        low, high = spec.bounds
        assert low is not None
        assert high is not None
        assert low <= m.value <= high
        if m.contributions:
            num, den = (output.arrays[f"{m.contributions}.{part}"] for part in ("num", "den"))
            assert len(num) == 2 * GROUPS * (2 if m.subset == "" else 1)
            assert ratio(num, den) == pytest.approx(m.value, abs=1e-9)
            assert m.ci_low is not None
            assert m.ci_high is not None
            assert m.ci_low <= m.value + 1e-12
            assert m.value <= m.ci_high + 1e-12
        else:
            assert m.metric.endswith("share")
    assert output.counts["examples/two"] == 48
    assert output.counts["not_scored"] == 0


def test_word_level_sets_are_not_in_the_headline(
    context: Make, dataset: Dataset, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny, ref, task = context(), dataset(30), ConceptSeparabilityTask()

    def one_of_words(name: str, *rest: Any) -> ConceptSet:
        return replace(concept_set(name, *rest), word_level=name == "words")

    monkeypatch.setattr(data, "concept_set", one_of_words)
    words = write(tmp_path / "words.csv", rows(30, seed=5))
    both, alone, at_last = (
        task.run(topk_sae(SITE), tiny, settings(*refs, pooling=pooling))
        for refs, pooling in (((ref, words), "mean"), ((words,), "mean"), ((words,), "last"))
    )
    assert values(both) == values(both, THREE) != values(both, "words")
    assert values(alone) == values(alone, "words") == values(at_last)  # a word is read where it stands


def test_the_last_token_tells_the_concept(context: Make, dataset: Dataset, settings: Settings):
    """The embedding of the last letter separates concepts perfectly, in some neuron each."""
    output = ConceptSeparabilityTask().run(
        NeuronBaseline(WIDTH, name="n", hook=HookSite.at("blocks.0.hook_resid_pre")),
        context("llama"),
        settings(dataset()),
    )
    assert values(output)["separability_top1"] == pytest.approx(1)
    assert values(output)["significant_share"] > 0.9


def test_neurons_are_their_own_reference(context: Make, dataset: Dataset, settings: Settings):
    measured = values(ConceptSeparabilityTask().run(neurons(), context(), settings(dataset())))
    for metric, value in measured.items():
        if metric.endswith("_over_neurons"):
            assert value == 0
        if metric.startswith("neurons_"):
            own = metric.removeprefix("neurons_")
            assert value == measured[own if own == "significant_share" else f"separability_{own}"]


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_a_permuted_decoder_changes_nothing(context: Make, dataset: Dataset, settings: Settings, pooling: str):
    tiny, sae, task = context(), topk_sae(SITE), ConceptSeparabilityTask()
    chosen = settings(dataset(), pooling=pooling)
    one, other = (task.run(s, tiny, chosen) for s in (sae, PermutedDecoderBaseline(sae, name="p", seed=0)))
    assert [m.model_dump() for m in one.measurements] == [m.model_dump() for m in other.measurements]


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("memory", [1, 10**8])
def test_pooling_is_that_of_dense_codes(context: Make, dataset: Dataset, pooling: Pooling, memory: int):
    tiny, sae = context(), topk_sae(SITE)
    examples = tiny.examples(concept_set("set", load_labelled(dataset(12)), tiny, 3, 20).texts, 24)
    activations = pooled(sae, examples, pooling, memory)
    dense = torch.zeros(examples.n, sae.d_sae)
    dense[activations.example, activations.latent] = activations.value
    for x, example in examples.tokens(SITE):
        for number in example.unique().tolist():
            z = sae.encode(x[example == number])
            expected = {"last": z[-1], "mean": z.mean(0), "max": z.max(0).values}[pooling]
            assert torch.allclose(dense[number], expected, atol=1e-5)


def test_concept_sets_are_balanced_and_disjoint(context: Make, dataset: Dataset):
    labelled = load_labelled(dataset(40))
    first, again, other = (
        concept_set("set", labelled, tiny, 15, 20) for tiny in (context(), context(), context(seed=1))
    )
    assert first.texts == again.texts != other.texts
    assert len(set(first.texts)) == len(first.texts) == 90
    table = torch.bincount(first.labels * 2 * GROUPS + first.groups, minlength=6 * GROUPS).view(3, -1)
    assert table.tolist() == [([2] * 5 + [1] * 5) * 2] * 3
    assert first.group_sizes == table[0].tolist()
    for order in first.permutations:
        assert torch.bincount(order[:45]).tolist() == torch.bincount(order[45:]).tolist() == [15] * 3


def test_estimators_agree_on_what_is_clear(context: Make, dataset: Dataset, settings: Settings):
    tiny, ref, task = context(), dataset(60), ConceptSeparabilityTask()
    histogram, kde = (
        values(task.run(neurons(), tiny, settings(ref, examples=30, estimator=estimator)))
        for estimator in ("histogram", "kde")
    )
    for metric in ("separability_mean", "separability_top10", "separability_pairwise"):
        assert histogram[metric] == pytest.approx(kde[metric], abs=0.12), metric


class Broken(NeuronBaseline):
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.nan


class Silent(NeuronBaseline):
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0


def test_latents_that_are_not_numbers_or_never_fire(context: Make, dataset: Dataset, settings: Settings):
    tiny, chosen = context(), settings(dataset())
    with pytest.raises(SaebenchError, match=r"b: its latents hold 2304 NaN or Inf on 72 examples"):
        ConceptSeparabilityTask().run(Broken(WIDTH, name="b", hook=HookSite.at(SITE)), tiny, chosen)
    output = ConceptSeparabilityTask().run(Silent(WIDTH, name="s", hook=HookSite.at(SITE)), tiny, chosen)
    measured = {m.metric: m for m in output.measurements if m.subset == ""}
    assert measured["separability_mean"].value is None
    assert measured["separability_mean"].not_scored == "no latent is active on any example"
    assert measured["separability_top10_over_neurons"].value is None
    assert measured["neurons_top10"].value is not None
    assert measured["alive_share"].value == 0
    assert output.counts["not_scored"] > 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"estimator": "kdee"}, UsageError, "must be one of histogram, kde, not 'kdee'. Did you mean 'kde'"),
        ({"pooling": "first"}, UsageError, "must be one of mean, max, last, not 'first'"),
        ({"datasets": []}, UsageError, "'datasets' of task 'concept_separability' is empty"),
        ({"datasets": ["csv:a", "csv:b", "csv:a"]}, UsageError, "must name each value once"),
        ({"datasets": ["asset:sae-probes/97_news_clas"]}, UsageError, "Did you mean '97_news_class'"),
        ({"examples": 16}, DataError, "has 30 examples of 'birds', but two halves of 16 need 32"),
        ({"context_length": 10**6}, UsageError, "too long"),
    ],
)
def test_settings_that_are_refused_before_any_sae(
    context: Make, dataset: Dataset, settings: Settings, changes: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error) as caught:
        ConceptSeparabilityTask().prepare(context(), settings(dataset(), **changes))
    assert message in str(caught.value)


def test_data_that_is_refused(context: Make, settings: Settings, tmp_path: Path):
    task = ConceptSeparabilityTask()
    ref = write(tmp_path / "one.csv", rows(30, concepts=("birds",)))
    with pytest.raises(DataError, match="one class"):
        task.prepare(context(), settings(ref))
    few = write(tmp_path / "few.csv", [*rows(30), *[(f"boot {i} x", "boots") for i in range(4)]])
    with pytest.raises(DataError, match=r"4 examples of 'boots'.*give 20 of each at least"):
        task.prepare(context(), settings(few))
    repeated = write(tmp_path / "repeated.csv", rows(12) * 3)
    with pytest.raises(DataError, match="has 12 examples"):  # copies count as one example
        task.prepare(context(), settings(repeated))


def test_a_word_level_set_takes_what_its_rarest_word_has(context: Make, settings: Settings, tmp_path: Path):
    """Words are rarer than the classes of a dataset, and the set is not part of the headline."""
    documents = [f"{i} we saw a {word} today" for word, n in (("boat", 40), ("bird", 25), ("bat", 4)) for i in range(n)]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in documents), "utf-8")
    tiny, ref = context(), f"words:jsonl:{path}?words=boat,bird"
    for wanted, taken in ((10, 10), (12, 12), (13, 12), (200, 12)):
        [(words, examples)] = concept_sets(tiny, settings(ref, examples=wanted))
        assert torch.bincount(words.labels).tolist() == [2 * taken, 2 * taken]
        assert sum(words.group_sizes) == 2 * taken
        assert examples.n == len(words.texts) == len(set(words.texts)) == 4 * taken
    output = ConceptSeparabilityTask().run(topk_sae(SITE), tiny, settings(ref, examples=200))
    assert next(iter(output.counts.items()))[1] == 48
    with pytest.raises(DataError, match=r"has 4 examples of 'bat'.*give 20 of each at least"):
        ConceptSeparabilityTask().prepare(context(), settings(f"words:jsonl:{path}?words=boat,bat"))


def test_data_names_the_content_of_every_dataset(context: Make, dataset: Dataset, settings: Settings):
    tiny, refs = context(), [dataset(30), dataset(31)]
    hashes = ConceptSeparabilityTask().data(tiny, settings(*refs))
    assert list(hashes) == refs
    assert len(set(hashes.values())) == 2


def test_the_smoke_preset_runs(context: Make, dataset: Dataset):
    task = ConceptSeparabilityTask()
    smoke = task.settings.parse(CARD.resolve("smoke", {"datasets": [dataset()]}), task=task.name)
    output = task.run(topk_sae(SITE), context("gemma3"), smoke)
    assert np.isfinite([m.value for m in output.measurements]).all()


def test_units_are_the_examples(context: Make, dataset: Dataset, settings: Settings):
    task, chosen = ConceptSeparabilityTask(), settings(dataset(30))
    one, two = (task.run(topk_sae(SITE, seed), context(), chosen) for seed in range(2))
    assert_units(one, same=two, other=task.run(topk_sae(SITE), context(seed=1), chosen), differ={"example"})
