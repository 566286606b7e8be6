"""Random directions: the same edits of the same latents at the same tokens, written along rows that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from saebench.errors import DataError
from saebench.evaluation.task import TaskOutput
from saebench.interventions.base import on_texts
from saebench.passes.context import TaskContext
from saebench.sae.adversaries import BrokenDecoder
from saebench.sae.protocol import Capability
from saebench.sae.units import in_units
from saebench.tasks.unlearning.methods.clamps import clamp_sweeps
from saebench.tasks.unlearning.methods.guardrail import guardrail_sweeps
from saebench.tasks.unlearning.methods.redirected import other_rows, redirected
from saebench.tasks.unlearning.selection import latent_statistics
from tests.tasks.unlearning.planted import PLANTED, SITE, measure, planted_sae, reader, small_settings, values

QUICKLY = {"methods": ["clamp", "dsg"], "saebench_score": False, "generation_documents": 0, "questions": 4}


@pytest.fixture
def tiny(context: Callable[..., TaskContext], texts: dict[str, list[str]]) -> TaskContext:
    return context("gemma3", read=reader(texts), batch_size=16, seed=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_rows_of_other_latents_of_the_same_length(tiny: TaskContext, folder: Path):
    sae = planted_sae(tiny)
    sae.rows *= torch.linspace(1, 5, sae.d_sae)[:, None]
    statistics = latent_statistics(sae, tiny, small_settings(folder))
    found = other_rows(sae, statistics, PLANTED, np.random.default_rng(0))
    assert torch.allclose(found.norm(dim=1), sae.rows[list(PLANTED)].norm(dim=1))
    cosine = torch.nn.functional.normalize(found, dim=1) @ torch.nn.functional.normalize(sae.rows, dim=1).T
    nearest = cosine.max(dim=1)
    assert torch.allclose(nearest.values, torch.ones(len(PLANTED)))
    assert not set(nearest.indices.tolist()) & set(PLANTED)


def test_the_order_of_the_latents_decides_no_row(tiny: TaskContext, folder: Path):
    one, other = planted_sae(tiny), planted_sae(tiny)
    order = torch.from_numpy(np.random.default_rng(1).permutation(one.d_sae))
    for name in ("reads", "thresholds", "rows"):
        setattr(other, name, getattr(one, name)[order])
    settings = small_settings(folder)
    place = {int(latent): number for number, latent in enumerate(order)}
    rows = [
        other_rows(sae, latent_statistics(sae, tiny, settings), chosen, np.random.default_rng(0))
        for sae, chosen in ((one, PLANTED), (other, [place[latent] for latent in PLANTED]))
    ]
    assert torch.allclose(*rows)


def test_too_few_latents_for_random_directions(tiny: TaskContext, folder: Path):
    sae = planted_sae(tiny)
    statistics = latent_statistics(sae, tiny, small_settings(folder))
    with pytest.raises(DataError, match="planted has 48 latents, too few to draw 30 random directions"):
        other_rows(sae, statistics, range(30), np.random.default_rng(0))


def test_the_same_tokens_change_by_as_much_along_other_rows(tiny: TaskContext, folder: Path):
    settings, sae = small_settings(folder), planted_sae(tiny)
    statistics = latent_statistics(sae, tiny, settings)
    own = [*clamp_sweeps(sae, tiny, statistics, settings)["clamp"], *guardrail_sweeps(sae, tiny, statistics, settings)]
    texts = tiny.text(settings.forget_text).evaluation.texts[:6]
    x = torch.cat([x for x, _ in tiny.examples(texts, 16).tokens(SITE)])[None]
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    for sweep in own:
        control = redirected(sweep, sae, tiny, statistics, np.random.default_rng(0))
        assert (control.strengths, control.latents, control.gate) == (sweep.strengths, sweep.latents, sweep.gate)
        for change, other in zip(sweep.changes, control.changes, strict=True):
            moved, moved_other = (on_texts(edit, x, mask) - x for edit in (change, other))
            assert torch.equal(moved.abs().sum(-1) > 0, moved_other.abs().sum(-1) > 0)
            assert (moved.abs().sum(-1) > 0).any()
            assert not torch.allclose(moved, moved_other)
            assert change.describe() != other.describe()


def test_one_direction_for_all_rows_is_its_own_control(tiny: TaskContext, folder: Path):
    settings = small_settings(folder, **QUICKLY)
    plain = values(measure(planted_sae(tiny), tiny, settings))
    adversary = BrokenDecoder(planted_sae(tiny), name="broken", seed=0)
    broken = values(measure(in_units(adversary), tiny, settings))
    assert broken["detector_auroc", "dsg"] == pytest.approx(plain["detector_auroc", "dsg"])
    assert broken["direction_effect", ""] == pytest.approx(0, abs=1e-6)


def test_without_decoder_rows_the_effect_is_not_scored(tiny: TaskContext, folder: Path):
    sae = planted_sae(tiny)
    sae.capabilities = sae.capabilities - {Capability.LINEAR_DECODER}
    output: TaskOutput = measure(sae, tiny, small_settings(folder, **QUICKLY))
    [effect] = [m for m in output.measurements if m.metric == "direction_effect"]
    assert effect.value is None
    assert effect.not_scored == "the decoder of the SAE is not linear, so there are no rows to replace"
    assert values(output)["selection_effect", ""] is not None
