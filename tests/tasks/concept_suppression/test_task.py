"""The whole task on tiny models: its output, a planted concept that is suppressed, and inputs that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saebench.cards.card import cards_dir, load_card
from saebench.errors import DataError, SaebenchError, UsageError
from saebench.evaluation import TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.base import BaseAdapter
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import Capability, HookSite
from saebench.stats.intervals import ratio
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings
from saebench.tasks.concept_suppression.task import ConceptSuppressionTask
from tests.conftest import WIDTH
from tests.tasks.concept_suppression.conftest import CONCEPTS, MARKS, rows, write
from tests.tasks.conftest import assert_units, documents, topk_sae, transcoder

SITE = "blocks.1.hook_resid_post"
CARD = load_card(cards_dir() / "concept_suppression.yaml")
METHODS = ("app", "zero", "range", "partial")
SETTING_METRICS = {
    "target_drop",
    "complement_drop",
    "target_confidence_drop",
    "complement_confidence_drop",
    "selective_drop",
    "perplexity_ratio",
}
SMALL = {"fit_examples": 8, "validation_examples": 2, "test_examples": 4, "methods": ["zero"], "latents": [1]}
SWEEP_METRICS = {"perplexity_ratio_at_drop", "complement_drop_at_drop", "suppression_area"}

Make = Callable[..., TaskContext]
Dataset = Callable[..., str]
Settings = Callable[..., ConceptSuppressionSettings]


def values(output: TaskOutput, subset: str = "") -> dict[str, float | None]:
    return {m.metric: m.value for m in output.measurements if m.subset == subset}


def numbers(output: TaskOutput) -> list[dict[str, Any]]:
    return [m.model_dump() for m in output.measurements]


@pytest.fixture(scope="module")
def refs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("sets")
    return [write(folder / "three.csv", rows(40)), write(folder / "two.csv", rows(40, 5, CONCEPTS[:2]))]


@pytest.fixture(scope="module")
def output(loaded: Callable[..., Any], settings: Settings, refs: list[str]) -> TaskOutput:
    context = TaskContext(loaded("llama"), read=lambda ref: documents(), batch_size=64)
    return ConceptSuppressionTask().run(topk_sae(SITE), context, settings(*refs))


def test_every_row_and_metric_of_the_card(output: TaskOutput, refs: list[str]):
    assert {m.metric for m in output.measurements} == {spec.id for spec in CARD.metrics}
    for subset in ("neurons", "diffmean", *METHODS, *(f"neurons/{method}" for method in METHODS)):
        assert set(values(output, subset)) == SETTING_METRICS | SWEEP_METRICS
    assert set(values(output, "random")) == set(values(output, "noise")) == SETTING_METRICS
    for concept in (*(f"three/{c}" for c in CONCEPTS), *(f"two/{c}" for c in CONCEPTS[:2])):
        assert set(values(output, concept)) == {"target_drop", "complement_drop"}
    assert len({(m.metric, m.subset) for m in output.measurements}) == len(output.measurements)
    for m in output.measurements:
        if m.value is None:
            assert m.metric in ("perplexity_ratio_at_drop", "complement_drop_at_drop")
            assert m.not_scored == "the target drop reaches 0.25 at none of its strengths"
            continue
        low, high = CARD.metric(m.metric).bounds
        assert low is not None
        assert low <= m.value <= (np.inf if high is None else high)
        if m.contributions:
            num, den = (output.arrays[f"{m.contributions}.{part}"] for part in ("num", "den"))
            assert len(num) == (5 if m.unit == "sequence" else 5 * 9)
            assert ratio(num, den) == pytest.approx(m.value, abs=1e-9)
    assert {name: output.counts[name] for name in ("examples", "concepts", "sequences", "validation_examples")} == {
        "examples": 45,
        "concepts": 5,
        "sequences": 5,
        "validation_examples": 30,
    }


def test_differences_and_averages_are_those_of_the_rows(output: TaskOutput):
    measured = values(output)
    drops = [measured[f"{side}_confidence_drop"] for side in ("target", "complement")]
    assert measured["selective_drop"] == pytest.approx(drops[0] - drops[1])  # type: ignore[operator]
    for name in ("neurons", "random", "diffmean", "noise"):
        for metric in ("target_drop", "selective_drop"):
            expected = measured[metric] - values(output, name)[metric]  # type: ignore[operator]
            assert measured[f"{metric}_over_{name}"] == pytest.approx(expected)
    singles = [
        m.value for m in output.measurements if m.subset.startswith(("three/", "two/")) and m.metric == "target_drop"
    ]
    assert np.mean(np.array(singles, float)) == pytest.approx(measured["target_drop"])
    place = [0.0, 1.0, 4.0].index(output.notes["strengths"]["app"])
    for metric in ("target_drop", "complement_drop"):
        swept = output.arrays[f"sweep/test/app/{metric}"]
        assert swept.shape == (3, 5)
        assert (swept[0] == 0).all()
        assert swept[place].mean() == pytest.approx(values(output, "app")[metric], abs=1e-6)
    log_ratio = output.arrays["sweep/test/app/log_perplexity_ratio"][place].mean()
    assert np.exp(log_ratio) == pytest.approx(values(output, "app")["perplexity_ratio"], rel=1e-5)


class Planted(BaseAdapter):
    """For each concept a latent that is 1 at its letter, with the letter's embedding as direction.

    Two more latents are always active, and their directions are zero.
    """

    rows: torch.Tensor

    def __init__(self, embeddings: torch.Tensor) -> None:
        super().__init__(
            name="planted",
            architecture="planted",
            hook=HookSite.at("blocks.0.hook_resid_pre"),
            d_in=WIDTH,
            d_sae=len(embeddings) + 2,
            capabilities=frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE, Capability.NON_NEGATIVE}),
        )
        self.register_buffer("rows", embeddings)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        there = torch.cdist(x.float().flatten(0, -2), self.rows).view(*x.shape[:-1], -1) < 1e-3
        return torch.cat([there.float(), torch.ones_like(x[..., :2])], -1)

    def decode(self, z: torch.Tensor, x: torch.Tensor | None = None) -> torch.Tensor:
        return z @ self.decoder_directions()

    def decoder_directions(self) -> torch.Tensor:
        return torch.cat([self.rows, torch.zeros(2, WIDTH)])


def test_the_full_mask_of_a_planted_latent_suppresses_its_concept_alone(
    context: Make, dataset: Dataset, settings: Settings
):
    tiny = context("llama", batch_size=64)
    letters = tiny.lm.tokenizer.convert_tokens_to_ids(list(MARKS))
    planted = Planted(tiny.lm.model.get_input_embeddings().weight[letters].clone())
    output = ConceptSuppressionTask().run(planted, tiny, settings(dataset(), methods=["zero"], latents=[1]))
    assert list(output.notes["latents"].values()) == [[0], [1], [2]]
    assert output.counts["selected_latents"] == 3
    measured = values(output)
    assert measured["readout_accuracy"] > 0.85  # type: ignore[operator]
    assert measured["target_drop"] > 0.5  # type: ignore[operator]
    # Other concepts and general text do not hold the letter, so nothing changes for them, bit for bit.
    assert measured["complement_drop"] == measured["complement_confidence_drop"] == 0
    assert measured["perplexity_ratio"] == measured["perplexity_ratio_at_drop"] == 1
    assert measured["target_drop_over_random"] == measured["target_drop"]
    assert measured["target_drop_over_noise"] > 0  # type: ignore[operator]
    assert measured["selective_drop"] == pytest.approx(measured["target_confidence_drop"])
    assert measured["selective_drop_over_noise"] > 0.1  # type: ignore[operator]
    # Random latents are those of the other concepts, whose right answers lose probability then.
    assert measured["selective_drop_over_random"] > measured["selective_drop"]  # type: ignore[operator]


def test_controls_are_drawn_several_times(context: Make, dataset: Dataset, settings: Settings):
    tiny, ref = context("llama", batch_size=64), dataset()
    one, several, again = (
        ConceptSuppressionTask().run(topk_sae(SITE), tiny, settings(ref, **QUICK, control_draws=draws))
        for draws in (1, 3, 3)
    )
    assert numbers(several) == numbers(again)
    for name in ("random", "noise"):
        assert values(one, name) != values(several, name)
    assert values(one)["target_confidence_drop"] == values(several)["target_confidence_drop"]


class Silent(NeuronBaseline):
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0


class Broken(NeuronBaseline):
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.nan


def of_kind(kind: type[NeuronBaseline]) -> NeuronBaseline:
    return kind(WIDTH, name="n", hook=HookSite.at(SITE))


QUICK: dict[str, Any] = {"methods": ["app"], "latents": [2], "ablation_strengths": [1.0]}


def test_without_latents_nothing_changes(context: Make, dataset: Dataset, settings: Settings):
    output = ConceptSuppressionTask().run(of_kind(Silent), context(batch_size=64), settings(dataset(), **QUICK))
    for subset in ("", "app", "random", "noise"):
        measured = values(output, subset)
        assert measured["perplexity_ratio"] == 1
        assert all(measured[metric] == 0 for metric in SETTING_METRICS - {"perplexity_ratio"})
    assert output.counts["selected_latents"] == 0
    assert output.counts["concepts_without_latents"] == 3
    assert output.notes["method"].startswith("none")
    assert values(output)["suppression_area"] == 0


def test_nothing_is_changed_when_no_setting_keeps_the_limits(context: Make, dataset: Dataset, settings: Settings):
    # Users cannot ask for a limit below 1, but only such a limit is too strict for a tiny model.
    strict = settings(dataset(), **QUICK).model_copy(update={"max_perplexity_ratio": 0.01})
    output = ConceptSuppressionTask().run(topk_sae(SITE), context(batch_size=64), strict)
    assert output.arrays["sweep/test/app/target_confidence_drop"][1].any()
    assert output.notes["strengths"][""] == 0
    assert values(output)["target_drop"] == 0
    assert values(output)["perplexity_ratio"] == 1


def test_neurons_as_an_sae_are_their_own_reference(context: Make, dataset: Dataset, settings: Settings):
    tiny = context(batch_size=64)
    output = ConceptSuppressionTask().run(of_kind(NeuronBaseline), tiny, settings(dataset(), **QUICK))
    assert values(output)["target_drop_over_neurons"] == 0
    assert values(output, "app") == pytest.approx(values(output, "neurons/app"))


def test_the_same_numbers_again_whatever_ran_before(context: Make, dataset: Dataset, settings: Settings):
    quick, task = settings(dataset(), **QUICK), ConceptSuppressionTask()
    shared = context(batch_size=64)
    task.run(topk_sae(SITE, seed=1), shared, quick)
    one, other = (task.run(topk_sae(SITE), tiny, quick) for tiny in (shared, context(batch_size=64)))
    assert numbers(one) == numbers(other)


def test_a_transcoder_is_changed_where_it_writes(context: Make, dataset: Dataset, settings: Settings):
    sae = transcoder("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out")
    output = ConceptSuppressionTask().run(sae, context("gpt2", batch_size=64), settings(dataset(), **QUICK))
    assert output.arrays["sweep/test/app/log_perplexity_ratio"][1].any()


def test_the_smoke_preset_runs(context: Make, dataset: Dataset):
    task, changes = ConceptSuppressionTask(), {"datasets": [dataset()], "perplexity_text": "memory:tiny"}
    smoke = task.settings.parse(CARD.resolve("smoke", changes), task=task.name)
    output = task.run(topk_sae(SITE), context("gemma3", batch_size=64), smoke)
    assert np.isfinite([m.value for m in output.measurements if m.metric in SETTING_METRICS]).all()


def test_latents_that_are_not_numbers(context: Make, dataset: Dataset, settings: Settings):
    with pytest.raises(SaebenchError, match="NaN or Inf"):
        ConceptSuppressionTask().run(of_kind(Broken), context(batch_size=64), settings(dataset(), **QUICK))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": ["ap"]}, UsageError, "must be one of app, zero, range, partial, not 'ap'. Did you mean 'app'"),
        ({"methods": []}, UsageError, "'methods' of task 'concept_suppression' is empty"),
        ({"methods": ["app", "app"]}, UsageError, "must name each value once"),
        ({"selection": "salience"}, UsageError, "Did you mean 'saliency'"),
        ({"latents": [5, 1]}, UsageError, "must list rising values, not [5, 1]"),
        ({"latents": [0, 1]}, UsageError, "(value 1 of the list) must be at least 1, not 0"),
        ({"latents": [1.5]}, UsageError, "(value 1 of the list) must be a whole number, not 1.5"),
        ({"latents": ["5"]}, UsageError, "(value 1 of the list) must be a whole number, not '5'"),
        ({"latents": []}, UsageError, "'latents' of task 'concept_suppression' is empty"),
        ({"ablation_strengths": []}, UsageError, "'ablation_strengths' of task 'concept_suppression' is empty"),
        ({"ablation_strengths": [0.0, 0.5]}, UsageError, "(value 1 of the list) must be above 0, not 0.0"),
        ({"ablation_strengths": [0.5, 0.5]}, UsageError, "must list rising values, not [0.5, 0.5]"),
        ({"complement_share": 0.0}, UsageError, "must be above 0, not 0.0"),
        ({"complement_share": 1.5}, UsageError, "must be at most 1, not 1.5"),
        ({"datasets": []}, UsageError, "'datasets' of task 'concept_suppression' is empty"),
        ({"datasets": ["csv:a", "csv:a"]}, UsageError, "must name each value once"),
        ({"test_examples": 20}, DataError, "has 40 examples of 'birds', but 20 to fit, 6 to validate and 20 to test"),
        ({"context_length": 10**6}, UsageError, "too long"),
        ({"perplexity_context_length": 10**6}, UsageError, "too long"),
        ({"test_sequences": 10**4}, DataError, "sequences too short for the perplexity"),
    ],
)
def test_settings_that_are_refused_before_any_sae(
    context: Make, dataset: Dataset, settings: Settings, changes: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error) as caught:
        ConceptSuppressionTask().prepare(context(), settings(dataset(), **changes))
    assert message in str(caught.value)


def test_a_set_of_one_concept_is_refused(context: Make, settings: Settings, tmp_path: Path):
    ref = write(tmp_path / "one.csv", rows(40, concepts=CONCEPTS[:1]))
    with pytest.raises(DataError, match="one class"):
        ConceptSuppressionTask().prepare(context(), settings(ref))


def test_data_names_the_content_of_everything(context: Make, dataset: Dataset, settings: Settings):
    ref = dataset()
    hashes = ConceptSuppressionTask().data(context(), settings(ref))
    assert list(hashes) == [ref, "perplexity_text:memory:tiny"]
    assert len(set(hashes.values())) == 2


def test_units_are_the_examples_and_the_sequences(context: Make, dataset: Dataset, settings: Settings):
    task, chosen = ConceptSuppressionTask(), settings(dataset(14), **SMALL)
    one, two = (task.run(topk_sae(SITE, seed), context("llama"), chosen) for seed in range(2))
    other = task.run(topk_sae(SITE), context("llama", seed=1), chosen)
    assert_units(one, same=two, other=other, differ={"example", "sequence"})
