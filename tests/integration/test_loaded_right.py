"""Mistakes planted in SAEs of the zoo, on a real language model. ``python -m tests.diagnosis`` tries all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saebench.diagnosis.diagnose import Diagnosis, diagnose
from saebench.diagnosis.text import sentence
from saebench.diagnosis.verdict import Outcome
from saebench.lm.load import load_lm
from saebench.passes.context import TaskContext
from saebench.sae.base import LoadContext
from saebench.sae.reference import load_sae, parse_sae_ref
from tests.diagnosis.planted import HOOK, PLANTS, Plant

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("real")]

TEXT = "asset:sae-probes/97_news_class"
SOME = (
    "scale of the activations left out",
    "selection not in p ||W_dec||",
    "W_enc not transposed",
    "hook one block late",
    "k eight times too large",
    "ReLU for JumpReLU",
)


@pytest.fixture(scope="module")
def context() -> TaskContext:
    return TaskContext(load_lm("asset:gemma-3-270m", device=torch.device("cpu"), dtype=torch.float32))


@pytest.fixture(scope="module")
def x(context: TaskContext) -> torch.Tensor:
    """A few activations that no diagnosis reads, from which the scale of the training is estimated."""
    tokens = context.calibration_batch(TEXT, 64, 4).tokens
    return context.lm.prefix(tokens, [HOOK])[HOOK][:, 1:].flatten(0, 1)


def diagnosed(reference: str, context: TaskContext) -> Diagnosis:
    parsed = parse_sae_ref(reference)
    return diagnose(parsed, load_sae(parsed, LoadContext(d_in=context.lm.d_at)), context, TEXT, sequences=6)


@pytest.mark.parametrize("name", ["topk-k32-s0", "batchtopk-k32-s0", "frozen-topk-k32-s0"])
def test_no_false_alarm(name: str, context: TaskContext) -> None:
    diagnosis = diagnosed(f"zoo:{name}", context)
    assert diagnosis.verdict.outcome is Outcome.RIGHT, sentence(diagnosis)


@pytest.mark.parametrize("plant", [plant for plant in PLANTS if plant.name in SOME], ids=lambda plant: plant.name)
def test_a_mistake_is_named(plant: Plant, context: TaskContext, x: torch.Tensor, tmp_path: Path) -> None:
    diagnosis = diagnosed(plant.write(tmp_path / "sae", x), context)
    best = diagnosis.verdict.best
    assert best is not None, sentence(diagnosis)
    assert plant.is_undone_by(best.variant), sentence(diagnosis)
