"""A broken model is told from a biased, an ignorant, and a good one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import DataError, UsageError
from saebench.scorers.collapse import Answers, answer_entropy, collapsed, degenerate


def test_by_hand():
    found = Answers.of(np.array([0, 0, 0, 1]), 4)
    assert found.n == 4
    assert found.top == 0
    assert found.top_share == 0.75
    assert found.fixed == pytest.approx(2 / 3)  # 2/3 fixed, and a quarter of the remaining third: 3/4 in all
    assert found.entropy == pytest.approx(0.811278)
    assert found.normalised == pytest.approx(0.811278 / 2)
    # 4 P(3 or 4 of 4 | 1/4) = 4 (4 * 3 + 1) / 256
    assert found.p_value == pytest.approx(52 / 256)
    assert not found.collapsed


@pytest.mark.parametrize("n_choices", [2, 4, 5])
class TestVerdict:
    def test_one_letter_always(self, n_choices: int):
        assert collapsed(np.full(40, n_choices - 1), n_choices)
        assert answer_entropy(np.full(40, 1), n_choices) == 0

    def test_constant_logits(self, n_choices: int):
        scores = torch.zeros(40, n_choices)
        assert collapsed(scores.argmax(-1).numpy(), n_choices)

    def test_nearly_always_one_letter(self, n_choices: int):
        assert collapsed(np.array([0] * 95 + list(range(n_choices)) * 1), n_choices)

    def test_right_and_guessed_answers_are_fair(self, n_choices: int):
        rng = np.random.default_rng(0)
        assert not collapsed(np.tile(np.arange(n_choices), 25), n_choices)
        assert not any(collapsed(rng.integers(n_choices, size=60), n_choices) for _ in range(200))

    def test_a_bias_is_no_collapse(self, n_choices: int):
        biased = np.array([0] * 60 + list(range(n_choices)) * 10)
        found = Answers.of(biased, n_choices)
        assert found.p_value < 0.001
        assert not found.collapsed

    def test_a_handful_of_questions_proves_nothing(self, n_choices: int):
        assert not collapsed(np.zeros(3, dtype=np.int64), n_choices)


def test_thresholds_are_those_documented():
    def of_share(share: float, n_choices: int) -> bool:
        top = round(10_000 * share)
        return collapsed(np.array([0] * top + [1] * (10_000 - top)), n_choices)

    assert of_share(0.876, 2)
    assert not of_share(0.874, 2)
    assert of_share(0.813, 4)
    assert not of_share(0.812, 4)


@given(st.integers(2, 6).flatmap(lambda k: st.tuples(st.just(k), st.lists(st.integers(0, k - 1), min_size=1))))
def test_bounds(case: tuple[int, list[int]]):
    n_choices, choices = case
    found = Answers.of(np.array(choices), n_choices)
    assert 0 <= found.entropy <= np.log2(n_choices) + 1e-12
    assert 0 <= found.normalised <= 1 + 1e-12
    assert -1e-12 <= found.fixed <= 1
    assert 0 <= found.p_value <= 1
    assert found.top_share == choices.count(found.top) / len(choices)


def test_chance_is_kept():
    """Even answerers are called beyond chance no more often than the level says."""
    rng = np.random.default_rng(1)
    drawn = [Answers.of(rng.integers(4, size=12), 4).p_value for _ in range(2000)]
    assert np.mean(np.array(drawn) < 0.05) <= 0.06


@pytest.mark.parametrize(
    ("choices", "n_choices", "error", "message"),
    [
        ([], 2, DataError, "no answers"),
        ([0, 2], 2, UsageError, "from 0 to 1"),
        ([-1, 1], 2, UsageError, "from -1"),
        ([0], 1, UsageError, "at least two choices"),
    ],
)
def test_refusals(choices: list[int], n_choices: int, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        Answers.of(np.array(choices, dtype=np.int64), n_choices)


def test_degenerate_texts():
    texts = [[], [5] * 12, [1, 2] * 8, list(range(12)), [1, 2], [1, 2, 3, 4, 1, 2, 3, 4]]
    assert degenerate(texts).tolist() == [True, True, True, False, False, False]
    assert degenerate([]).shape == (0,)
