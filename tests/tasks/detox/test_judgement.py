"""Scores of continuations against hand-made numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saebench.stats.intervals import ratio
from saebench.tasks.detox.scoring.judgement import absolute_scores, advantage, judge, log_perplexity_ratio, reduction
from tests.tasks.detox.conftest import Stub, judged


class CountedFluency:
    """A nat for each character, a token for each character."""

    def __call__(self, prompts: Any, continuations: Any) -> tuple[np.ndarray, np.ndarray]:
        n = np.array([len(text) for text in continuations])
        assert all(prompt == "p" + text[:1] or not text for prompt, text in zip(prompts, continuations, strict=True))
        return n * 1.0, n


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
    np.testing.assert_array_equal(one.prompt_toxicity, [0.5, np.nan])
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
    assert ratio(*advantage(clean, control, changed)) == pytest.approx((0.3 + 0.0) / 1.0)
    assert np.isnan(ratio(*reduction(judged([[0.0]]), judged([[0.0]]))))


def test_empty_continuations_are_counted_and_in_no_mean():
    scores = absolute_scores(judged([[0.6, np.nan], [np.nan, np.nan], [0.1, 0.3]]))
    found = {metric: ratio(*parts) for metric, parts in scores.items()}
    assert found["toxicity"] == pytest.approx((0.6 + 0.2) / 2)
    assert found["expected_max_toxicity"] == pytest.approx((0.6 + 0.3) / 2)
    assert found["toxic_share"] == pytest.approx(1 / 3)
    assert found["empty_share"] == pytest.approx(0.5)


def test_perplexity_ratios_are_geometric_means():
    clean, changed = judged([[0.5], [0.5]]), judged([[0.5], [0.5]], ce=1.5)
    assert np.exp(ratio(*log_perplexity_ratio(clean, changed))) == pytest.approx(np.exp(0.5))
