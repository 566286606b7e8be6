"""A planted direction of a language is found; its ablation harms that language alone; adding it makes the LM speak."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saebench.cards.card import PRESETS
from saebench.errors import DataError, UsageError
from saebench.evaluation.task import TaskOutput
from saebench.lm.model import LanguageModel
from saebench.passes.context import TaskContext
from saebench.tasks.language_steering.settings import LanguageSteeringSettings
from saebench.tasks.language_steering.task import LanguageSteeringTask
from tests.tasks.conftest import assert_units, topk_sae, transcoder
from tests.tasks.language_steering.conftest import CARD, DIRECTIONS, EVERY, LANGUAGE, SITE, Planted, parsed

Values = dict[tuple[str, str], float | None]


def values(output: TaskOutput) -> Values:
    return {(m.metric, m.subset): m.value for m in output.measurements}


@pytest.fixture(scope="module")
def measured(stub: None, speaking: LanguageModel, settings: LanguageSteeringSettings) -> TaskOutput:
    task, context = LanguageSteeringTask(), TaskContext(speaking)
    task.prepare(context, settings)
    return task.run(Planted(), context, settings)


def test_the_planted_latent_is_found(measured: TaskOutput):
    for method in ("langfir", "nu"):
        assert measured.notes["latents"][method] == {each: [latent] for each, latent in LANGUAGE.items()}
    found = values(measured)
    for subset in ("", "langfir", "lape", "nu", "langfir/fr", "lape/de"):
        assert found["latents_per_language", subset] == 1
    assert found["langfir_specific_share", ""] == 1


def test_a_latent_of_all_text_is_filtered_by_random_tokens(
    context: TaskContext, stub: None, parameters: dict[str, Any]
):
    """It fires on every sentence as well; without the filter it would be found for each language."""
    output = LanguageSteeringTask().run(Planted(), context, parsed(parameters, random_rate=1.0))
    assert all(set(each) == {EVERY, LANGUAGE[name]} for name, each in output.notes["latents"]["langfir"].items())
    assert values(output)["langfir_specific_share", ""] == 0.5


def test_ablation_harms_that_language_alone(measured: TaskOutput):
    found = values(measured)
    for subset in ("", "langfir", "nu", "diffmean", "fr", "langfir/de"):
        assert found["ablation_selectivity", subset] > 0.5, subset
    for method in ("langfir", "nu"):
        costs = measured.arrays[f"ablation/{method}"]
        assert costs.shape == (2, 3)  # en is no target
        for row, language in enumerate(("fr", "de")):
            assert costs[row, LANGUAGE[language]] > 0.5
            others = np.delete(costs[row], LANGUAGE[language])
            assert abs(others).max() < 0.1 * costs[row, LANGUAGE[language]]
    assert found["ablation_selectivity", "random"] < 0.1
    assert found["ablation_margin", ""] == pytest.approx(found["ablation_selectivity", ""], abs=0.2)
    assert found["ablation_own", ""] - found["ablation_others", ""] == pytest.approx(found["ablation_selectivity", ""])


def test_ablation_about_the_mean_harms_that_language_most(
    context: TaskContext, stub: None, parameters: dict[str, Any], measured: TaskOutput
):
    output = LanguageSteeringTask().run(Planted(), context, parsed(parameters, ablation_centre="mean"))
    found, without = values(output), values(measured)
    assert 0.1 < found["ablation_selectivity", "langfir"] < without["ablation_selectivity", "langfir"]


def test_steering_makes_the_model_speak_the_language(measured: TaskOutput):
    found = values(measured)
    assert found["accuracy", "clean"] == 0
    for subset in ("", "langfir", "nu", "diffmean", "recover", "fr", "langfir/de"):
        assert found["accuracy", subset] == 1, subset
    assert found["accuracy_over_diffmean", ""] == 0
    assert found["accuracy_over_random", ""] == 1
    assert found["accuracy", "noise"] < 0.5
    assert measured.notes["strengths"]["langfir"] == 2.0
    assert measured.arrays["sweep/langfir"][:, 0].tolist() == [0, 1]
    assert found["acc_chrf", ""] > found["acc_chrf", "clean"] == 0


def test_units_are_sentences_that_pair(measured: TaskOutput):
    for m in measured.measurements:
        if m.contributions is not None:
            num, den = (measured.arrays[f"{m.contributions}.{part}"] for part in ("num", "den"))
            assert m.n == len(num) == len(den)
            if m.value is not None:
                assert m.value == pytest.approx(num.sum() / den.sum())
    lengths = {len(measured.arrays[f"accuracy/{method}.num"]) for method in ("clean", "langfir", "diffmean", "random")}
    assert lengths == {8}  # 4 prompts for each of 2 targets, all different rows


def test_every_metric_is_on_the_card(measured: TaskOutput):
    assert {m.metric for m in measured.measurements} == {m.id for m in CARD.metrics}
    assert measured.counts["not_scored"] == sum(m.value is None for m in measured.measurements)


def test_no_latent_passes(stub: None, context: TaskContext, settings: LanguageSteeringSettings):
    """Nothing is changed: effect 0, with counts that say so."""
    silent = Planted(threshold=100.0)
    output = LanguageSteeringTask().run(silent, context, settings)
    found = values(output)
    assert output.counts["selected_latents/langfir"] == output.counts["selected_latents/nu"] == 0
    assert output.counts["languages_without/langfir"] == 3
    for metric in ("accuracy", "acc_chrf", "chrf", "degenerate_share"):
        for subset in ("", "langfir", "random", "noise"):
            assert found[metric, subset] == found[metric, "clean"]
    assert found["ablation_selectivity", ""] == found["ablation_own", ""] == found["latents_per_language", ""] == 0
    assert found["ablation_ratio", ""] is None
    assert found["langfir_specific_share", ""] is None
    assert output.counts["empty_continuations"] == 8  # the clean model says newlines


def test_what_needs_no_sae_is_done_once(
    stub: None, context: TaskContext, settings: LanguageSteeringSettings, monkeypatch: pytest.MonkeyPatch
):
    task = LanguageSteeringTask()
    first = values(task.run(Planted(), context, settings))
    for name in ("difference_in_means", "recover_sweep"):
        monkeypatch.setattr(f"saebench.tasks.language_steering.scoring.without_sae.{name}", None)
    other = values(task.run(Planted(torch.roll(DIRECTIONS, 1, 0)), context, settings))
    for subset in ("clean", "diffmean", "recover"):
        assert other["accuracy", subset] == first["accuracy", subset]


def test_the_same_again(stub: None, context: TaskContext, measured: TaskOutput, settings: LanguageSteeringSettings):
    again = LanguageSteeringTask().run(Planted(), context, settings)
    assert again.notes == measured.notes
    assert values(again) == values(measured)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"frame": "lines"}, UsageError, "'frame' .* must be one of line, .*, not 'lines'.* Did you mean 'line'"),
        ({"methods": ["langfire"]}, UsageError, "'methods' .* not 'langfire'.* Did you mean 'langfir'"),
        ({"methods": []}, UsageError, "'methods' .* is empty"),
        ({"strengths": []}, UsageError, "'strengths' .* is empty"),
        ({"strengths": [2.0, 1.0]}, UsageError, "'strengths' .* must list rising values"),
        ({"strengths": [0.0, 1.0]}, UsageError, "'strengths' .* must be above 0, not 0.0"),
        ({"diffmean_strengths": []}, UsageError, "'diffmean_strengths' .* is empty"),
        ({"recover_strengths": [1.0, 1.0]}, UsageError, "'recover_strengths' .* must list rising values"),
        ({"ablation_centre": "median"}, UsageError, "'ablation_centre' .* must be one of mean, zero"),
        ({"languages": ["en", "fr", "sw"]}, UsageError, "no sentences in 'sw'"),
        ({"languages": ["fr", "de"]}, UsageError, "source language 'en' is not among languages=fr, de"),
        ({"source": "it"}, UsageError, "no sentences in 'it'"),
        ({"languages": ["en", "fr"]}, DataError, "gives 2 languages, but language_steering needs at least 3"),
        ({"identifier": "py3langi"}, UsageError, "'identifier' .* not 'py3langi'.* Did you mean 'py3langid'"),
    ],
)
def test_settings_that_cannot_be_used(
    context: TaskContext, parameters: dict[str, Any], changes: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        LanguageSteeringTask().prepare(context, parsed(parameters, **changes))


def test_a_tokenizer_without_bos_and_eos(
    context: TaskContext, settings: LanguageSteeringSettings, monkeypatch: pytest.MonkeyPatch, stub: None
):
    tokenizer = copy.deepcopy(context.lm.tokenizer)
    tokenizer.bos_token = tokenizer.eos_token = None
    monkeypatch.setattr(context.lm, "tokenizer", tokenizer)
    with pytest.raises(DataError, match="neither a BOS nor an EOS token"):
        LanguageSteeringTask().prepare(context, settings)


def test_prompts_too_long_for_the_model(context: TaskContext, parameters: dict[str, Any], stub: None):
    with pytest.raises(UsageError, match="exceeds the context"):
        LanguageSteeringTask().run(Planted(), context, parsed(parameters, max_new_tokens=100))


def test_fewer_sentences_than_asked(
    stub: None, context: TaskContext, written: Callable[..., str], parameters: dict[str, Any]
):
    changes = {"parallel": written(train=6, validation=2, test=3), "test_prompts": 10}
    output = LanguageSteeringTask().run(Planted(), context, parsed(parameters, **changes))
    assert output.counts["test_sentences"] == 3
    assert output.counts["test_sentences_missing"] == 7
    assert output.counts["train_sentences_missing"] == 6
    assert len(output.arrays["accuracy.num"]) == 3
    assert output.arrays["accuracy.den"].tolist() == [2, 2, 2]  # every target has all of them


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_resolve(preset: str):
    parsed(CARD.resolve(preset))


def test_data_names_the_set(context: TaskContext, settings: LanguageSteeringSettings):
    found = LanguageSteeringTask().data(context, settings)
    assert list(found) == [settings.parallel]
    assert len(found[settings.parallel]) == 64


def test_controls_are_means_over_draws(context: TaskContext, parameters: dict[str, Any]):
    one, several = (
        LanguageSteeringTask().run(Planted(), context, parsed(parameters, control_draws=draws)) for draws in (1, 3)
    )
    first, mean = values(one), values(several)
    own = [key for key in first if not key[1].startswith(("random", "noise")) and key[0] != "accuracy_over_random"]
    assert all(mean[key] == pytest.approx(first[key], nan_ok=True) for key in own if first[key] is not None)
    for subset in ("random", "noise"):
        num, den = (several.arrays[f"accuracy/{subset}.{part}"] for part in ("num", "den"))
        assert num.sum() / den.sum() == pytest.approx(mean["accuracy", subset])
        assert den.sum() == 3 * one.arrays[f"accuracy/{subset}.den"].sum()
    difference = mean["accuracy", ""] - mean["accuracy", "random"]
    assert mean["accuracy_over_random", ""] == pytest.approx(difference)
    assert len([key for key in several.notes["latents"] if key.startswith("random/")]) == 3


def test_a_language_that_the_identifier_does_not_know(context: TaskContext, parameters: dict[str, Any], tmp_path: Path):
    text = Path(parameters["parallel"].removeprefix("jsonl:")).read_text()
    (tmp_path / "rows.jsonl").write_text(text.replace('"de"', '"qq"'))
    changes = {"parallel": f"jsonl:{tmp_path / 'rows.jsonl'}", "identifier": "py3langid"}
    with pytest.raises(UsageError, match="py3langid does not know the language 'qq'"):
        LanguageSteeringTask().prepare(context, parsed(parameters, **changes))


@pytest.mark.parametrize("crossing", [False, True])
def test_models_and_saes_of_other_kinds(
    loaded: Callable[[str], LanguageModel], parameters: dict[str, Any], crossing: bool
):
    sae = transcoder("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out") if crossing else topk_sae(SITE)
    changes = {"identifier": "py3langid", "methods": ["nu", "lape"], "recover_strengths": [0.5, 1.0]}
    output = LanguageSteeringTask().run(sae, TaskContext(loaded("gemma3")), parsed(parameters, **changes))
    found = values(output)
    assert set(output.notes["latents"]) == {"nu", "lape", "random/0", "random/1"}
    assert set(output.notes["strengths"]) == {"nu", "lape", "diffmean", "recover"}
    assert found["ablation_own", "nu"] != 0
    assert all(np.isfinite(values).all() for values in output.arrays.values())


def test_units_are_the_test_sentences(
    stub: None, context: TaskContext, measured: TaskOutput, settings: LanguageSteeringSettings
):
    task = LanguageSteeringTask()
    same = task.run(topk_sae(SITE), context, settings)
    other = task.run(Planted(), TaskContext(context.lm, seed=1), settings)
    assert_units(measured, same=same, other=other, differ={"sentence"})
