"""Changing latents of the real language model: the four tasks from end to end, and lm-eval's own scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

import saebench
from saebench.data import assets
from saebench.harness.model import SaebenchLM
from saebench.harness.questions import openbookqa_questions

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("real")]

TASKS = ["unlearning", "detox", "language_steering", "concept_suppression"]


def test_the_four_tasks(tmp_path: Path):
    table = saebench.run(sae="zoo:topk-k32-s0", tasks=TASKS, suite="smoke", out=tmp_path, dtype="float32", device="cpu")
    assert set(table["status"]) == {"ok"}
    assert set(table["task"]) == set(TASKS)
    value = table.set_index(["task", "metric", "subset"])["value"]
    # Latents of medical text, chosen on other documents: they fire there, and what they change is not broken.
    assert value["unlearning", "detector_auroc", ""] > 0.8
    assert value["unlearning", "retain_lost", ""] < 0.1
    assert value["unlearning", "question_accuracy_retain", "clean"] > 0.5
    assert value["detox", "latent_auroc", ""] > 0.5
    assert value["language_steering", "accuracy", "recover"] > 0
    assert value["concept_suppression", "readout_accuracy", ""] > 0.25
    shares = value[[metric.endswith("_share") for _, metric, _ in value.index]].dropna()
    assert shares.between(0, 1).all()


def test_clean_scores_are_lm_evals_own():
    questions = openbookqa_questions()[:3]
    requests = [
        Instance("loglikelihood", {}, (question.text, f" {choice}"), number)
        for question in questions
        for number, choice in enumerate(question.choices)
    ]
    hf = HFLM(
        pretrained=str(assets.path("gemma-3-270m")), backend="causal", device="cpu", dtype="float32", batch_size=4
    )
    own = SaebenchLM("asset:gemma-3-270m", device="cpu", dtype="float32", batch_size=4)
    hooked = SaebenchLM(
        "asset:gemma-3-270m", sae="zoo:topk-k32-s0", intervention="none", device="cpu", dtype="float32", batch_size=4
    )
    expected, found, near = (
        torch.tensor([score for score, _ in model.loglikelihood(requests, disable_tqdm=True)])
        for model in (hf, own, hooked)
    )
    assert torch.equal(found, expected)
    assert np.allclose(near, expected, atol=1e-3)  # TransformerLens' attention rounds otherwise
