"""Settings and data that cannot be used are refused in one sentence, before any SAE is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saebench.errors import DataError, SaebenchError, UsageError
from saebench.passes.context import TaskContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import HookSite
from saebench.tasks.unlearning.data.questions import load_questions
from saebench.tasks.unlearning.task import UnlearningTask
from tests.conftest import WIDTH
from tests.tasks.unlearning.planted import FORGET, OTHER, RETAIN, SITE, measure, planted_sae, small_settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["clmp"]}, "Did you mean 'clamp'?"),
        ({"methods": ["rmu"]}, "Task 'unlearning': methods must name at least one of clamp, conditional, dsg."),
        ({"methods": []}, "methods must name at least one of"),
        ({"clamp_selections": ["sparsity"]}, "Did you mean 'sparsity_ratio'?"),
        ({"dsg_selections": []}, "'dsg_selections' of task 'unlearning' is empty"),
        ({"strength_unit": "nats"}, "'strength_unit' of task 'unlearning' must be one of mean, absolute, not 'nats'"),
        ({"strengths": [4.0, 1.0]}, "'strengths' of task 'unlearning' must list rising values, not [4.0, 1.0]"),
        ({"ablation_strengths": [1.0, 1.0]}, "'ablation_strengths' of task 'unlearning' must list rising values"),
        ({"strengths": []}, "'strengths' of task 'unlearning' is empty"),
        ({"direction_strengths": [0.0]}, "(value 1 of the list) must be above 0, not 0.0"),
        ({"weight_strengths": [0.5, -1.0]}, "(value 2 of the list) must be above 0, not -1.0"),
        ({"latents": []}, "'latents' of task 'unlearning' is empty"),
        ({"latents": [0]}, "(value 1 of the list) must be at least 1, not 0"),
        ({"gate_percentile": 101.0}, "must be at most 100, not 101.0"),
        ({"topic_ratio": 0.5}, "must be at least 1, not 0.5"),
        ({"control_draws": 0}, "must be at least 1, not 0"),
        ({"retain_texts": []}, "'retain_texts' of task 'unlearning' is empty"),
        ({"retain_texts": [FORGET]}, "'memory:forget' is both the forget_text and one of the retain_texts"),
        ({"retain_texts": [RETAIN, RETAIN]}, "'retain_texts' of task 'unlearning' must name each value once"),
        ({"retain_texts": [RETAIN, OTHER, "memory:third"], "validation_documents": 2}, "must each be at least 3"),
    ],
)
def test_settings_are_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(UsageError) as caught:
        small_settings(tmp_path, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_length": 65}, "has 64 positions"),
        ({"forget_questions": "sciq:live"}, "Did you mean 'life'?"),
        ({"forget_questions": "wmdp_bio"}, "Unknown reference 'wmdp_bio' to questions"),
    ],
)
def test_settings_that_do_not_fit_model_or_data_are_refused(
    tiny: TaskContext, tmp_path: Path, changes: dict[str, Any], message: str
):
    with pytest.raises(UsageError) as caught:
        UnlearningTask().prepare(tiny, small_settings(tmp_path, **changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_with_too_few_documents_says_how_many_there_are(tiny: TaskContext, tmp_path: Path):
    with pytest.raises(DataError, match=r"'memory:forget' has \d+ documents .* needs 926 of them"):
        UnlearningTask().prepare(tiny, small_settings(tmp_path, fit_documents=900))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: this is not valid JSON"),
        ("[]", "line 1: each line must hold a JSON object"),
        ("{}", "line 1: a question needs the fields question, choices and answer"),
        (json.dumps({"question": "q", "choices": ["a"], "answer": 0}), "choices a list of at least two texts"),
        (json.dumps({"question": "q", "choices": ["a", "b"], "answer": 2}), "the place of the right one"),
        (json.dumps({"question": 1, "choices": ["a", "b"], "answer": 0}), "question must be text"),
        ("", "has no questions"),
    ],
)
def test_rows_that_are_no_question(tmp_path: Path, line: str, message: str):
    path = tmp_path / "questions.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=message):
        load_questions(f"jsonl:{path}")


def test_too_few_latents_for_the_random_control(tiny: TaskContext, tmp_path: Path):
    settings = small_settings(tmp_path, latents=[30], retain_threshold=0.9, methods=["clamp"], saebench_score=False)
    with pytest.raises(SaebenchError, match=r"planted has 48 latents, too few to draw \d+ random ones"):
        measure(planted_sae(tiny), tiny, settings)


def test_signed_latents_are_not_applicable():
    neurons = NeuronBaseline(WIDTH, name="neurons", hook=HookSite.at(SITE))
    assert UnlearningTask.needs - neurons.capabilities
