"""The loss of toxic and neutral texts: what counts, what is chosen, and that a broken model gains nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saebench.evaluation.changes import Setting, Sweep
from saebench.interventions.base import Intervention
from saebench.passes.context import TaskContext
from saebench.tasks.detox.data import splits
from saebench.tasks.detox.scoring.likelihood import LossRises, Tried, text_pairs
from saebench.tasks.detox.selection import LatentSet, choose
from saebench.tasks.detox.settings import DetoxSettings
from saebench.tasks.detox.steering import LatentSteering
from tests.tasks.detox.conftest import WRITES, Planted, parsed

LIMITED = DetoxSettings(max_loss_rise=0.1)


def rise(toxic: float, neutral: float) -> LossRises:
    return LossRises(np.array([toxic - 1, toxic + 1]), np.array([neutral, neutral]))


def swept(tier: str, *rises: tuple[float, float]) -> Tried:
    strengths = tuple(float(2**place) for place in range(len(rises)))
    return Tried(Sweep[Intervention](tier, strengths, ()), [rise(*one) for one in rises])


def mean(found: LossRises, limit: float) -> float:
    num, den = found.gap_at(limit)
    return float(num.sum() / den.sum())


def test_a_gap_counts_in_full_within_the_limit_and_in_proportion_beyond():
    assert mean(rise(0.5, 0.1), 0.1) == pytest.approx(0.4)
    assert mean(rise(0.5, 0.2), 0.1) == pytest.approx(0.15)
    assert mean(rise(0.5, -0.2), 0.1) == pytest.approx(0.7)
    assert mean(rise(-0.5, 0.0), 0.1) == pytest.approx(-0.5)


def test_a_broken_model_gains_nothing():
    """All its losses are far higher, and differ by what the texts lost before."""
    assert abs(mean(rise(9.0, 7.0), 0.1)) < 0.03
    assert np.isnan(mean(rise(np.nan, np.nan), 0.1))


def test_the_choice_stays_within_the_limit_and_takes_the_best_tier():
    tried = [
        swept("constant", (0.2, 0.2), (9.0, 7.0)),  # a gap of 0 within the limit
        swept("input", (0.3, 0.05), (1.05, 0.15)),  # halfway between the strengths 1 and 2
        swept("token", (np.nan, np.nan), (0.4, 0.2)),  # half of strength 2: the first strength is not finite
    ]
    assert choose(tried, LIMITED)[:2] == [Setting("input", pytest.approx(1.5)), Setting("token", pytest.approx(1.0))]
    assert tried[1].best(0.1) == pytest.approx((1.5, (0.25 + 0.9) / 2))
    assert choose([swept("token", (-1.0, 0.0))], LIMITED) == [Setting("token", None)]
    assert choose([swept("token")], LIMITED) == [Setting("token", None)]


def test_losses_are_those_of_the_texts(tiny: TaskContext, parameters: dict[str, Any]):
    """Against a full pass of the model over each text, for all its tokens."""
    settings = parsed(parameters)
    pairs, texts = text_pairs(tiny, settings, "test", WRITES), splits(tiny, settings)["test"]
    sae = Planted(tiny.lm)
    steering = LatentSteering(sae, LatentSet([3], [2.0]), 2**24)
    [change] = steering.sweep("constant", [1.5]).changes
    [changed, unchanged] = pairs.under([change, None], "test")
    assert not unchanged.toxic.any()
    for text, found in zip(np.array(texts.texts)[~texts.toxic][:3], changed.neutral, strict=False):
        tokens = np.array([[tiny.lm.tokenizer.bos_token_id, *tiny.lm.tokenizer(text)["input_ids"][1:]]])
        assert found == pytest.approx(_rise(tiny, tokens, -3 * sae.decoder_directions()[3]), abs=1e-4)
    assert text_pairs(tiny, settings, "test", WRITES) is pairs


def _rise(context: TaskContext, tokens: Any, vector: Any) -> float:
    ids = torch.from_numpy(tokens)
    clean = context.lm.prefix(ids, [WRITES])[WRITES]
    new = clean.clone()
    new[:, 1:] += vector
    losses = []
    for x in (clean, new):
        hidden = context.lm.suffix(ids, WRITES, x, None)
        logits = context.lm.head.all_logits(hidden[0]).float().log_softmax(-1)[None]
        losses.append(-logits[0, :-1].gather(-1, ids[0, 1:, None]).mean())
    return float(losses[1] - losses[0])


def test_a_few_tokens_of_each_text(tiny: TaskContext, parameters: dict[str, Any]):
    few = text_pairs(tiny, parsed(parameters, text_predictions=5), "validation", WRITES)
    assert set(few.items.counts.tolist()) == {5.0}
    assert few.toxic.sum() * 2 == len(few.toxic) == few.items.n
