"""Scores of continuations, and the choice among settings, against hand-made numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saebench.stats.intervals import ratio
from saebench.tasks.detox.choice import Limits, Tradeoff
from saebench.tasks.detox.judged import Judged, absolute, excess, judge, log_perplexity_ratio, reduction
from tests.tasks.detox.conftest import Stub

LIMITS = Limits(perplexity_ratio=1.2, broken_increase=0.1)


class CountedFluency:
    """A nat for each character, a token for each character."""

    def __call__(self, prompts: Any, continuations: Any) -> tuple[np.ndarray, np.ndarray]:
        n = np.array([len(text) for text in continuations])
        assert all(prompt == "p" + text[:1] or not text for prompt, text in zip(prompts, continuations, strict=True))
        return n * 1.0, n


def judged(toxicity: Any, ce: float = 1.0, broken: float = 0.0) -> Judged:
    found = np.array(toxicity, dtype=np.float64)
    ones = np.ones_like(found)
    which = np.arange(found.size).reshape(found.shape) < broken * found.size
    return Judged(found, ce * ones, ones, which, 0 * ones, ones, {1: 1.0, 2: 1.0})


def test_continuations_are_scored_where_they_stand():
    texts = [[["zz", "b"], ["", " "]], [["ab", "bb"], ["z", "zzzz"]]]
    tokens = [[[[1, 1], [2]], [[], [9]]], [[[3, 2], [2, 2]], [[1], [1] * 12]]]
    prompts = ["pz", "p"]
    one, two = judge(
        prompts,
        texts,
        tokens,
        Stub(),
        lambda before, after: (np.array([len(t) * 1.0 for t in after]), np.array([len(t) for t in after])),  # type: ignore[arg-type]
    )
    np.testing.assert_array_equal(one.toxicity, [[1, 0], [np.nan, np.nan]])
    np.testing.assert_array_equal(two.toxicity, [[0, 0], [1, 1]])
    assert one.broken.tolist() == [[False, False], [True, True]]
    assert two.broken.tolist() == [[False, False], [False, True]]
    assert two.repeated[1, 1] == 8
    assert two.four_grams[1, 1] == 9
    np.testing.assert_array_equal(one.per_prompt, [0.5, np.nan])
    np.testing.assert_array_equal(two.ce, [[2, 2], [1, 4]])
    assert one.distinct[1] == pytest.approx(3 / 4)


def test_prompts_go_with_their_continuations():
    [found] = judge(["pa", "pb"], [[["ab"], ["b"]]], [[[[1]], [[2]]]], Stub(), CountedFluency())  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.ce_per_token, [1, 1])


def test_reductions_are_paired_by_prompt():
    clean, changed = judged([[0.8, 0.4], [0.4, 0.4], [0.9, 0.9]]), judged([[0.2, 0.4], [0.4, 0.0], [np.nan, np.nan]])
    num, den = reduction(clean, changed)
    np.testing.assert_allclose(num, [0.3, 0.2, 0])
    np.testing.assert_allclose(den, [0.6, 0.4, 0])
    assert ratio(*reduction(clean, clean)) == 0
    control = judged([[0.6, 0.6], [0.2, 0.2], [0.1, 0.1]])
    assert ratio(*excess(clean, control, changed)) == pytest.approx((0.3 + 0.0) / 1.0)
    assert np.isnan(ratio(*reduction(judged([[0.0]]), judged([[0.0]]))))


def test_empty_continuations_are_counted_and_in_no_mean():
    found = {
        name: ratio(*each) for name, each in absolute(judged([[0.6, np.nan], [np.nan, np.nan], [0.1, 0.3]])).items()
    }
    assert found["toxicity"] == pytest.approx((0.6 + 0.2) / 2)
    assert found["expected_max_toxicity"] == pytest.approx((0.6 + 0.3) / 2)
    assert found["toxic_share"] == pytest.approx(1 / 3)
    assert found["empty_share"] == pytest.approx(0.5)


def test_perplexity_ratios_are_geometric_means():
    clean, changed = judged([[0.5], [0.5]]), judged([[0.5], [0.5]], ce=1.5)
    assert np.exp(ratio(*log_perplexity_ratio(clean, changed))) == pytest.approx(np.exp(0.5))


def test_the_best_strength_stays_within_the_limits():
    clean = judged([[0.8]] * 10)
    limit = float(np.log(1.2))
    settings = [
        judged([[0.4]] * 10, ce=1 + limit / 2),
        judged([[np.nan]] * 10),  # not scored
        judged([[0.2]] * 10, ce=1 + 2 * limit),  # too costly
        judged([[0.0]] * 10, ce=0.9, broken=0.5),  # says nothing
    ]
    trade, strengths = Tradeoff(clean, settings), [1.0, 2.0, 4.0, 8.0]
    # A third of the way from the first to the third, where the perplexity is as large as it may be.
    assert trade.best(LIMITS, range(4), strengths) == pytest.approx((2.0, 0.5 + 0.25 / 3))
    assert trade.best(Limits(float(np.exp(3 * limit)), 0.1), range(4), strengths) == pytest.approx((4.0, 0.75))
    assert trade.best(Limits(2.0, 1.0), range(4), strengths) == (8.0, 1.0)
    assert trade.best(LIMITS, [0], [1.0]) == pytest.approx((1.0, 0.5))
    # Strength 0 costs nothing: half of what is too costly by twice.
    assert trade.best(LIMITS, [2, 3], [4.0, 8.0]) == pytest.approx((2.0, 0.375))
    assert trade.best(LIMITS, [3], [8.0]) == trade.best(LIMITS, [], []) == (0.0, 0.0)
    assert Tradeoff(clean, [judged([[0.9]] * 10)]).best(Limits(9.0, 1.0), [0], [1.0]) == (0.0, 0.0)
    assert Tradeoff(judged([[0.0]]), [judged([[0.0]])]).best(LIMITS, [0], [1.0]) == (0.0, 0.0)


def test_the_tradeoff_is_interpolated_and_leaves_broken_settings_out():
    clean = judged([[0.8]] * 10)
    limit = float(np.log(1.2))
    settings = [
        judged([[0.4]] * 10, ce=1 + 2 * limit),
        judged([[0.0]] * 10, broken=1.0),
        judged([[0.2]] * 10, ce=1 + 4 * limit),
    ]
    trade = Tradeoff(clean, settings)
    assert trade.at_limit(LIMITS, [0, 1, 2]) == pytest.approx(0.25)
    assert trade.at_limit(LIMITS, []) == 0
    assert trade.area(LIMITS, [0, 1, 2], widest=float(np.exp(4 * limit))) == pytest.approx(0.5 * 0.5)
    assert np.isnan(Tradeoff(judged([[0.0]]), settings).at_limit(LIMITS, [0]))
