"""Trade-offs, by hand and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import DataError, UsageError
from saebench.stats.frontier import best_within, effect_at_cost, hypervolume, pareto

numbers = st.floats(-2, 6, allow_nan=False)
points = st.lists(st.tuples(numbers, numbers), max_size=12)


def split(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([e for e, _ in pairs]), np.array([c for _, c in pairs])


def test_pareto_by_hand():
    effect = [1.0, 3.0, 2.0, 3.0, 0.5, 4.0]
    cost = [0.2, 1.0, 1.5, 0.9, 0.2, 5.0]
    assert pareto(effect, cost).tolist() == [0, 3, 5]
    assert pareto([1.0, 1.0], [2.0, 2.0]).tolist() == [0, 1]  # equal points beat each other not
    assert pareto([], []).tolist() == []


@given(points)
def test_pareto_keeps_what_nobody_beats_and_repeats_to_the_same(pairs: list[tuple[float, float]]):
    effect, cost = split(pairs)
    kept = pareto(effect, cost)
    assert pareto(effect[kept], cost[kept]).tolist() == list(range(len(kept)))
    for i in range(len(pairs)):
        beaten = any(
            effect[j] >= effect[i] and cost[j] <= cost[i] and (effect[j], cost[j]) != (effect[i], cost[i])
            for j in range(len(pairs))
        )
        assert (i in kept) == (not beaten)


def test_hypervolume_by_hand():
    # Effect 1 from cost 0.5 on and effect 2 from cost 1.5 on, in a box of 4 by 2: (1 * 1 + 2 * 0.5) / 8.
    assert hypervolume([1.0, 2.0], [0.5, 1.5], max_effect=4, max_cost=2) == pytest.approx(2 / 8)
    assert hypervolume([2.0, 1.0, 0.5], [1.5, 0.5, 1.0], max_effect=4, max_cost=2) == pytest.approx(2 / 8)
    assert hypervolume([], [], max_effect=4, max_cost=2) == 0
    assert hypervolume([4.0], [0.0], max_effect=4, max_cost=2) == 1
    assert hypervolume([9.0], [-3.0], max_effect=4, max_cost=2) == 1  # more than the box, for less than nothing
    assert hypervolume([-1.0], [0.5], max_effect=4, max_cost=2) == 0
    assert hypervolume([4.0, 4.0], [2.0, np.inf], max_effect=4, max_cost=2) == 0  # at the edge and outside of it


@given(points, st.tuples(numbers, numbers), st.floats(0.1, 5), st.floats(0.1, 5))
def test_hypervolume_grows_with_points_and_needs_the_pareto_front_alone(
    pairs: list[tuple[float, float]], more: tuple[float, float], max_effect: float, max_cost: float
):
    box = {"max_effect": max_effect, "max_cost": max_cost}
    effect, cost = split(pairs)
    volume = hypervolume(effect, cost, **box)
    assert 0 <= volume <= 1
    assert hypervolume(*split([*pairs, more]), **box) >= volume - 1e-12
    front = pareto(effect, cost)
    assert hypervolume(effect[front], cost[front], **box) == pytest.approx(volume, abs=1e-12)


def test_effect_at_cost_by_hand():
    effect, cost = [1.0, 3.0, 5.0], [0.1, 0.5, 2.5]
    assert effect_at_cost(effect, cost, 0.5) == 3
    assert effect_at_cost(effect, cost, 1.0) == pytest.approx(3.5)
    assert effect_at_cost(effect, cost, 9.0) == 5
    assert effect_at_cost(effect, cost, 0.05) == pytest.approx(0.5)  # from strength 0
    assert effect_at_cost(effect, cost, 0.0) == 0
    assert effect_at_cost([], [], 0.3) == 0
    assert effect_at_cost([-1.0, -2.0], [0.1, 0.2], 0.3) == 0
    # The cost falls again, so the budget is crossed three times; the largest effect within it counts.
    assert effect_at_cost([2.0, 4.0, 1.0], [1.0, 0.0, 1.0], 0.5) == pytest.approx(4.0)
    assert effect_at_cost([4.0, 2.0], [1.0, -1.0], 0.5) == pytest.approx(3.0)  # a cost below 0 counts as 0
    assert effect_at_cost([1.0, 2.0], [0.1, np.inf], 0.5) == 1


@given(points, st.floats(0, 5), st.floats(0, 5))
def test_effect_at_cost_grows_with_the_budget_and_lies_on_the_path(
    pairs: list[tuple[float, float]], one: float, other: float
):
    effect, cost = split(pairs)
    low, high = sorted([one, other])
    found = effect_at_cost(effect, cost, low)
    assert found <= effect_at_cost(effect, cost, high) + 1e-9
    path_e = np.concatenate([[0], np.maximum(effect, 0)])
    path_c = np.concatenate([[0], np.maximum(cost, 0)])
    steps = np.linspace(0, len(pairs), 200 * len(pairs) + 1)
    e, c = (np.interp(steps, np.arange(len(path_e)), path) for path in (path_e, path_c))
    assert found >= e[c <= low].max() - 1e-9
    assert found <= e.max() + 1e-9


@pytest.mark.parametrize("bad", [([np.nan], [1.0]), ([1.0], [np.nan]), ([np.inf], [1.0]), ([1.0], [-np.inf])])
def test_what_was_not_scored_is_refused(bad: tuple[list[float], list[float]]):
    for work in (
        lambda: pareto(*bad),
        lambda: hypervolume(*bad, max_effect=1, max_cost=1),
        lambda: effect_at_cost(*bad, 1.0),
    ):
        with pytest.raises(DataError, match="NaN or infinite"):
            work()


def test_wrong_use_is_refused():
    with pytest.raises(UsageError, match="box larger than 0"):
        hypervolume([1.0], [1.0], max_effect=0, max_cost=1)
    with pytest.raises(UsageError, match="box larger than 0"):
        hypervolume([1.0], [1.0], max_effect=1, max_cost=np.nan)
    for budget in (-0.1, np.nan):
        with pytest.raises(UsageError, match="budget"):
            effect_at_cost([1.0], [1.0], budget)
    with pytest.raises(ValueError, match="one effect and one cost"):
        pareto([1.0, 2.0], [1.0])


def test_the_best_strength_by_hand():
    assert best_within([1.0, 3.0], [1.0, 2.0], [0.5, 1.5], 1.0) == (2.0, 1.5)
    assert best_within([1.0, 3.0], [1.0, 2.0], [0.5, 1.5], 9.0) == (3.0, 2.0)
    assert best_within([1.0, 3.0], [1.0, 2.0], [0.5, 1.5], 0.25) == (0.5, 0.5)
    assert best_within([1.0, 3.0], [2.0, 2.0], [0.5, 0.6], 1.0) == (1.0, 2.0)  # the weaker of two equal ones
    assert best_within([1.0, 3.0], [-1.0, 0.0], [0.5, 0.6], 1.0) == (0.0, 0.0)
    assert best_within([], [], [], 1.0) == (0.0, 0.0)
    with pytest.raises(UsageError):
        best_within([1.0], [1.0], [1.0], -1.0)


@given(points, st.floats(0, 5))
def test_the_best_strength_has_the_effect_at_the_cost(pairs: list[tuple[float, float]], budget: float):
    effect, cost = split(pairs)
    strengths = np.cumsum(np.ones(len(pairs))) ** 1.5
    strength, found = best_within(strengths, effect, cost, budget)
    assert found == effect_at_cost(effect, cost, budget)
    along = np.append(0.0, strengths)
    assert np.interp(strength, along, np.append(0.0, np.maximum(effect, 0))) == pytest.approx(found, abs=1e-9)
    assert np.interp(strength, along, np.append(0.0, np.maximum(cost, 0))) <= budget + 1e-9
