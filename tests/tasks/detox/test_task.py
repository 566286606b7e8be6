"""The task on a tiny language model with a planted toxic direction."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saebench.errors import AssetError, SaebenchError, UsageError
from saebench.evaluation import TaskOutput
from saebench.evaluation.changes import Setting
from saebench.harness.utility import Utility
from saebench.interventions.base import on_texts
from saebench.interventions.steer import Steer
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.tasks.detox.scoring import continuations, side_effects
from saebench.tasks.detox.scoring.continuations import prompt_set
from saebench.tasks.detox.selection import LatentSet
from saebench.tasks.detox.steering import LatentSteering
from saebench.tasks.detox.task import DetoxTask
from tests.conftest import WIDTH
from tests.tasks.conftest import assert_units
from tests.tasks.detox.conftest import CARD, Planted, parsed

Parameters = dict[str, Any]


def measure(sae: SAE, context: TaskContext, parameters: Parameters, **changes: Any) -> TaskOutput:
    task, settings = DetoxTask(), parsed(parameters, **changes)
    task.prepare(context, settings)
    return task.run(sae, context, settings)


def values(output: TaskOutput) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.subset): m.value for m in output.measurements}


def test_the_planted_latent_is_found_and_taking_it_out_detoxifies(tiny: TaskContext, parameters: Parameters):
    output = measure(Planted(tiny.lm), tiny, parameters, latents=[1])
    found = values(output)
    assert output.notes["latents"] == [3]
    assert found["latent_auroc", ""] > 0.95
    assert found["toxicity", "clean"] > 0.2
    assert found["toxicity_reduction", ""] > 0.5
    assert found["toxicity_reduction_over_random", ""] > 0.3
    for metric in ("toxic_loss_gap", "toxic_loss_gap_over_random", "toxic_loss_gap_over_noise"):
        assert found[metric, ""] > 0.05
    gaps = [found[metric, ""] for metric in ("toxic_loss_rise", "neutral_loss_rise")]
    assert found["toxic_loss_gap", ""] == pytest.approx(gaps[0] - gaps[1])  # the limit is far away
    assert found["toxicity", ""] < found["toxicity", "clean"]
    assert found["expected_max_toxicity", ""] >= found["toxicity", ""]
    assert output.counts["selected_latents"] == 1


def test_every_metric_of_the_card_with_its_contributions(tiny: TaskContext, parameters: Parameters):
    output = measure(Planted(tiny.lm), tiny, parameters, sweep_on_test=True)
    utility = {m.id for m in CARD.metrics if m.id.startswith("utility")}
    assert {m.metric for m in output.measurements} == {m.id for m in CARD.metrics} - utility
    keys = [(m.metric, m.subset) for m in output.measurements]
    assert len(set(keys)) == len(keys)
    for metric in ("toxicity_reduction", "toxic_loss_gap"):
        subsets = {m.subset for m in output.measurements if m.metric == metric}
        assert subsets == {"", "constant", "input", "token", "zero", "random_latents", "noise", "diffmean"}
    for m in output.measurements:
        assert m.value is not None, m
        low, high = CARD.metric(m.metric).bounds
        assert (-np.inf if low is None else low) - 1e-9 <= m.value <= (np.inf if high is None else high) + 1e-9, m
        if m.contributions:
            num, den = (output.arrays[f"{m.contributions}.{part}"] for part in ("num", "den"))
            assert num.sum() / den.sum() == pytest.approx(m.value)
    assert output.counts["not_scored"] == 0
    assert output.arrays["validation.toxic_loss_gap"].shape == (6,)
    assert output.arrays["test.diffmean.log_perplexity_ratio"].shape == (1,)


def test_the_chosen_tier_is_among_the_tiers(tiny: TaskContext, parameters: Parameters):
    output = measure(Planted(tiny.lm), tiny, parameters)
    found, chosen = values(output), output.notes["chosen"]
    assert found["toxicity_reduction", ""] == found["toxicity_reduction", chosen["tier"]]
    assert output.notes["by_tier"][chosen["tier"]] == chosen["strength"]


def test_without_a_toxic_latent_nothing_changes(tiny: TaskContext, parameters: Parameters):
    output = measure(Planted(tiny.lm), tiny, parameters, min_auroc=1.01)
    found = values(output)
    assert output.counts["selected_latents"] == 0
    assert output.notes["latents"] == []
    assert output.notes["random_latents"] == [[], []]
    assert "no latent reaches" in output.notes["nothing_changed"]
    for subset in ("", "constant", "zero", "random_latents", "noise"):
        assert found["toxicity_reduction", subset] == 0
        assert found["perplexity_ratio", subset] == 1
        assert found["ce_change", subset] == 0
    assert found["latent_auroc", ""] == 0.5
    assert found["toxicity_reduction_over_random", ""] == found["toxic_loss_gap_over_random", ""] == 0


def test_a_change_that_makes_toxic_text_more_probable_is_not_chosen(tiny: TaskContext, parameters: Parameters):
    sae = Planted(tiny.lm)
    sae.rows[3] *= -1  # steering away from the latent now makes the model say ``z``
    # The other tiers change toxic texts alone, whose loss rises after each ``z``.
    output = measure(sae, tiny, parameters, latents=[1], tiers=["constant"])
    assert output.notes["latents"] == [3]
    assert output.notes["chosen"] is None
    assert "no setting" in output.notes["nothing_changed"]
    assert values(output)["toxicity_reduction", ""] == values(output)["toxic_loss_gap", ""] == 0
    assert values(output)["toxicity_reduction", "zero"] != 0


def test_a_latent_that_writes_nothing_toxic_hardly_helps(tiny: TaskContext, parameters: Parameters):
    planted = values(measure(Planted(tiny.lm), tiny, parameters))["toxicity_reduction", ""]
    other = values(measure(Planted(tiny.lm, planted=False), tiny, parameters, min_auroc=0.5))["toxicity_reduction", ""]
    assert other < planted


def test_each_draw_of_random_latents_chooses_for_itself(tiny: TaskContext, parameters: Parameters):
    output = measure(Planted(tiny.lm), tiny, parameters, control_draws=3, latents=[1])
    drawn, chosen = output.notes["random_latents"], output.notes["random_chosen"]
    assert len(drawn) == len(chosen) == 3
    assert all(len(latents) == 1 and latents != output.notes["latents"] for latents in drawn)
    assert len({tuple(latents) for latents in drawn}) > 1
    own = output.notes["chosen"]
    assert any(one != own for one in chosen)
    # One draw alone, of which the first of the three is the same, gives another number.
    single = measure(Planted(tiny.lm), tiny, parameters, control_draws=1, latents=[1])
    assert single.notes["random_latents"] == drawn[:1]
    assert values(single)["toxic_loss_gap", ""] == pytest.approx(values(output)["toxic_loss_gap", ""], abs=1e-5)


def test_clean_work_is_done_once_for_all_saes(tiny: TaskContext, parameters: Parameters):
    first, second = (values(measure(Planted(tiny.lm, planted=on), tiny, parameters)) for on in (True, False))
    same = [key for key in first if key[1] in ("clean", "diffmean")]
    assert len(same) > 15
    assert all(first[key] == second[key] for key in same)
    assert prompt_set(tiny, parsed(parameters)) is prompt_set(tiny, parsed(parameters))


def test_zero_strength_writes_what_the_clean_model_writes(tiny: TaskContext, parameters: Parameters):
    test = prompt_set(tiny, parsed(parameters))
    steering = LatentSteering(Planted(tiny.lm), LatentSet([3, 5], [2.0, 1.0]), 2**24)
    for tier in ("constant", "input", "token"):
        [change] = steering.sweep(tier, [0.0]).changes
        [judged] = test.under([change])
        np.testing.assert_array_equal(judged.toxicity, test.clean.toxicity)
        np.testing.assert_array_equal(judged.ce, test.clean.ce)


def test_tiers_touch_the_tokens_that_they_name(tiny: TaskContext):
    sae = Planted(tiny.lm)
    steering = LatentSteering(sae, LatentSet([3], [2.0]), 2**24)
    x = torch.zeros(1, 5, WIDTH)
    sae.probe = torch.cat([torch.zeros(1), sae.decoder_directions()[3]])
    x[0, [1, 3]] = 4 * sae.decoder_directions()[3]  # fires there alone
    mask = torch.ones(1, 5, dtype=torch.bool)
    mask[0, 0] = False

    def steered(tier: str) -> Steer:
        change = steering.steer(Setting(tier, 1.5))
        assert change is not None
        return change

    touched = {"constant": [1, 2, 3, 4], "input": [1, 2, 3, 4], "token": [1, 3]}
    for tier, places in touched.items():
        change = on_texts(steered(tier), x, mask, x) - x
        expected = torch.zeros_like(x)
        expected[0, places] = -3 * sae.decoder_directions()[3]
        torch.testing.assert_close(change, expected)
    later = x.clone()
    later[0, 1] = 0
    change = on_texts(steered("input"), later, mask, later) - later
    assert change[0].norm(dim=-1).nonzero().flatten().tolist() == [3, 4]


def test_utility_without_lm_eval_is_not_scored(
    tiny: TaskContext, parameters: Parameters, monkeypatch: pytest.MonkeyPatch
):
    def missing() -> None:
        raise UsageError("lm_eval cannot be imported; install it")

    monkeypatch.setattr(side_effects, "require_lm_eval", missing)
    output = measure(Planted(tiny.lm), tiny, parameters, utility_limit=4)
    [change] = [m for m in output.measurements if m.metric == "utility_change"]
    assert (change.subset, change.value) == ("saebench_sst2", None)
    assert "cannot be imported" in str(change.not_scored)


def test_utility_is_paired_by_question(tiny: TaskContext, parameters: Parameters, monkeypatch: pytest.MonkeyPatch):
    from saebench.harness.utility import Utility

    def scores(lm: object, intervention: object, tasks: object, **options: Any) -> dict[str, Utility]:
        right = [1.0, 0.0, 1.0, 1.0] if intervention is None else [1.0, 0.0, 0.0, 1.0]
        return {"sums": Utility("sums", "1", {}, {"acc": np.array(right)}, ("a", "b", "c", "d"))}

    monkeypatch.setattr(side_effects, "evaluate_utility", scores)
    output = measure(Planted(tiny.lm), tiny, parameters, utility_limit=4)
    found = values(output)
    assert found["utility_accuracy", "sums/clean"] == 0.75
    assert found["utility_accuracy", "sums"] == 0.5
    assert found["utility_change", "sums"] == -0.25
    assert found["utility_margin_change", "sums"] is None
    unchanged = values(measure(Planted(tiny.lm), tiny, parameters, utility_limit=4, min_auroc=1.01))
    assert unchanged["utility_change", "sums"] == 0


def test_a_model_that_falls_silent_is_counted(
    tiny: TaskContext, parameters: Parameters, monkeypatch: pytest.MonkeyPatch
):
    """Under every intervention the text ends at once: nothing is toxic, and no mean of toxicity says so."""
    original = continuations.generate_settings

    def silent(lm: Any, prompts: Any, interventions: Any, **options: Any) -> Any:
        found = original(lm, prompts, [None], **options)[0]
        silence = [[[] for _ in ways] for ways in found]
        return [found if each is None else silence for each in interventions]

    monkeypatch.setattr(continuations, "generate_settings", silent)
    output = measure(Planted(tiny.lm), tiny, parameters)
    found = {(m.metric, m.subset): m for m in output.measurements}
    assert found["empty_share", "zero"].value == found["broken_share", "zero"].value == 1
    for metric in ("toxicity", "toxicity_reduction", "perplexity_ratio", "continuation_ce", "distinct_1"):
        assert found[metric, "zero"].value is None
        assert found[metric, "zero"].not_scored
    assert found["toxicity_reduction", ""].value is None


def test_the_other_language_model_scores_fluency(
    tiny: TaskContext, parameters: Parameters, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    own = parsed(parameters, fluency_lm=tiny.lm.name)
    with pytest.raises(AssetError, match="saebench assets pull gemma-3-270m"):
        DetoxTask().prepare(tiny, own)
    monkeypatch.setattr(continuations.assets, "path", lambda name: tmp_path)
    assert prompt_set(tiny, own).fluency.lm_ref == "asset:gemma-3-270m"
    assert prompt_set(tiny, parsed(parameters)).fluency.lm_ref == parameters["fluency_lm"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tiers": ["inputs"]}, "not 'inputs'. Did you mean 'input'"),
        ({"methods": ["zeros"]}, "Did you mean 'zero'"),
        ({"pooling": "sum"}, "fires, max, mean"),
        ({"control_draws": 0}, "must be at least 1"),
        ({"max_loss_rise": 0.0}, "must be above 0"),
        ({"tiers": []}, "'tiers' of task 'detox' is empty"),
        ({"tiers": ["token", "token"]}, "'tiers' of task 'detox' must name each value once"),
        ({"strengths": [1.0, 1.0]}, "must name each value once"),
        ({"strengths": [0.0]}, "must be above 0"),
        ({"diffmean_strengths": [-1.0]}, "must be above 0"),
        ({"latents": [0, 4]}, "must be at least 1"),
        ({"toxic": [], "neutral": []}, "'toxic' of task 'detox' is empty"),
        ({"neutral": ["csv:a=0", "csv:b=0"]}, "'toxic' names 1 sources and 'neutral' 2"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"top_p": 1.5}, "must be at most 1"),
        ({"scorer": "profanity"}, "Did you mean 'profanity-check'"),
        ({"fluency_lm": "asset:smollm"}, "smollm2"),
    ],
)
def test_settings_that_cannot_be(tiny: TaskContext, parameters: Parameters, changes: Parameters, message: str):
    with pytest.raises(SaebenchError, match=message):
        DetoxTask().prepare(tiny, parsed(parameters, **changes))


def test_a_scorer_that_is_not_there(tiny: TaskContext, parameters: Parameters, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "detoxify", None)
    with pytest.raises(UsageError, match=r"pip install 'saebench\[detox\]'"):
        DetoxTask().prepare(tiny, parsed(parameters, scorer="detoxify:unbiased"))


def test_the_records_know_their_data(tiny: TaskContext, parameters: Parameters):
    found = DetoxTask().data(tiny, parsed(parameters, prompts="memory:prompts"))
    [judge] = [ref for ref in found if ref.startswith("fluency_lm:")]
    assert set(found) == {*parameters["toxic"], *parameters["neutral"], parameters["text"], "memory:prompts", judge}
    assert CARD.needs == sorted(CARD.needs, key=["position_wise", "linear_decoder", "non_negative"].index)
    assert {need.value for need in DetoxTask.needs} == set(CARD.needs)


def test_units_are_the_prompts_the_sequences_and_the_questions(
    tiny: TaskContext, parameters: Parameters, monkeypatch: pytest.MonkeyPatch
):
    def utility(*_: Any, **__: Any) -> dict[str, Utility]:
        scores = {"acc": np.ones(3), "margin": np.ones(3)}
        return {"quiz": Utility("quiz", "1", {}, scores, tuple(questions))}

    monkeypatch.setattr(side_effects, "evaluate_utility", utility)
    asked, questions = {"utility_tasks": ["quiz"], "utility_limit": 3}, ["q1", "q2", "q3"]
    one, two = (measure(Planted(tiny.lm, planted=planted), tiny, parameters, **asked) for planted in (True, False))

    def elsewhere(seed: int) -> TaskOutput:
        context = TaskContext(tiny.lm, seed=seed, read=tiny.read, batch_size=8)
        return measure(Planted(tiny.lm), context, parameters, **asked)

    assert_units(one, same=two, other=elsewhere(1), differ={"text pair", "prompt", "sequence"})
    questions[0] = "q0"
    assert_units(one, same=two, other=elsewhere(0), differ={"question"})
