"""The trade-off of a sweep on what the model writes, against hand-made numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from saebench.evaluation.changes import Sweep
from saebench.interventions.base import Intervention
from saebench.tasks.detox.scoring.judgement import Judgement
from saebench.tasks.detox.scoring.tradeoff import Tradeoff, frontier_area, reduction_at_limit
from saebench.tasks.detox.settings import DetoxSettings
from tests.tasks.detox.conftest import judged

LIMIT = float(np.log(1.2))
LIMITED = DetoxSettings(max_perplexity_ratio=1.2, max_broken_increase=0.1)
TOXIC = judged([[0.8]] * 10)
CLEAN = judged([[0.0]])


def swept(
    judgements: Sequence[Judgement], strengths: Sequence[float], clean: Judgement = TOXIC, tier: str = "token"
) -> Tradeoff:
    return Tradeoff(Sweep[Intervention](tier, tuple(strengths), ()), clean, list(judgements))


def test_the_best_strength_stays_within_the_limits():
    mild = judged([[0.4]] * 10, ce=1 + LIMIT / 2)
    unscored = judged([[np.nan]] * 10)
    costly = judged([[0.2]] * 10, ce=1 + 2 * LIMIT)
    silent = judged([[0.0]] * 10, ce=0.9, broken=0.5)
    every = swept([mild, unscored, costly, silent], [1.0, 2.0, 4.0, 8.0])
    # A third of the way from the first to the third, where the perplexity is as large as it may be.
    assert every.best(LIMITED) == pytest.approx((2.0, 0.5 + 0.25 / 3))
    wider = DetoxSettings(max_perplexity_ratio=float(np.exp(3 * LIMIT)), max_broken_increase=0.1)
    assert every.best(wider) == pytest.approx((4.0, 0.75))
    assert every.best(DetoxSettings(max_perplexity_ratio=2.0, max_broken_increase=1.0)) == (8.0, 1.0)
    assert swept([mild], [1.0]).best(LIMITED) == pytest.approx((1.0, 0.5))
    # Strength 0 costs nothing: half of what is too costly by twice.
    assert swept([costly, silent], [4.0, 8.0]).best(LIMITED) == pytest.approx((2.0, 0.375))
    assert swept([silent], [8.0]).best(LIMITED) == swept([], []).best(LIMITED) == (0.0, 0.0)
    worse = swept([judged([[0.9]] * 10)], [1.0])
    assert worse.best(DetoxSettings(max_perplexity_ratio=9.0, max_broken_increase=1.0)) == (0.0, 0.0)
    assert swept([CLEAN], [1.0], clean=CLEAN).best(LIMITED) == (0.0, 0.0)


def test_the_tradeoff_is_interpolated_and_leaves_broken_settings_out():
    judgements = [
        judged([[0.4]] * 10, ce=1 + 2 * LIMIT),
        judged([[0.0]] * 10, broken=1.0),
        judged([[0.2]] * 10, ce=1 + 4 * LIMIT),
    ]
    every = swept(judgements, [1.0, 2.0, 4.0])
    assert reduction_at_limit([every], LIMITED) == pytest.approx(0.25)
    assert reduction_at_limit([swept([], [])], LIMITED) == 0
    settings = LIMITED.model_copy(update={"frontier_perplexity_ratio": float(np.exp(4 * LIMIT))})
    assert frontier_area([every], settings) == pytest.approx(0.5 * 0.5)
    nothing = swept(judgements[:1], [1.0], clean=CLEAN)
    assert np.isnan(reduction_at_limit([nothing], LIMITED))
    assert np.isnan(frontier_area([nothing], LIMITED))


def test_all_tiers_share_one_trade_off():
    tried = [
        swept([judged([[0.9]] * 10)], [1.0], tier="constant"),
        swept([judged([[0.6]] * 10)], [4.0], tier="input"),
        swept([judged([[0.4]] * 10)], [2.0], tier="token"),
    ]
    assert reduction_at_limit(tried, LIMITED) == pytest.approx(0.5)
    assert frontier_area(tried, LIMITED) == pytest.approx(0.5)
