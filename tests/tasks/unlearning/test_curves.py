"""Trade-offs by hand, and the bootstrap of what is read off them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.passes.context import TaskContext
from saebench.tasks.unlearning.curves import (
    Changes,
    Curve,
    Resamples,
    at_budget,
    choose,
    in_box,
    percentile,
    selectivity,
)
from saebench.tasks.unlearning.methods import Sweep

SIDES = np.array([True, True, False, False])


def changes(forget: list[float], retain: list[float]) -> Changes:
    """Of four documents with two predictions each, that rise as much at each strength."""
    sums = np.array([[2 * f, 2 * f, 2 * r, 2 * r] for f, r in zip(forget, retain, strict=True)]).reshape(-1, 4)
    return Changes(sums, np.full(4, 2.0), SIDES)


def curve(name: str, validation: tuple[list[float], list[float]], test: tuple[list[float], list[float]]) -> Curve:
    return Curve(Sweep(name, tuple(range(1, len(test[0]) + 1)), ()), changes(*validation), changes(*test))


def test_rises_are_per_token():
    found = Changes(np.array([[1.0, 3.0, 2.0, 0.0]]), np.array([1.0, 3.0, 4.0, 4.0]), SIDES)
    assert found.rise(forget=True).tolist() == [1.0]
    assert found.rise(forget=False).tolist() == [0.25]
    weights = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert found.rise(forget=True, weights=weights).tolist() == [[1.0], [1.0]]
    assert found.at(None).rise(forget=True).tolist() == [0.0]


def test_the_setting_is_chosen_on_validation_alone():
    one = curve("one", ([0.1, 0.5, 0.9], [0.0, 0.04, 0.2]), ([9, 0, 9], [0, 9, 0]))
    two = curve("two", ([0.2, 0.4], [0.0, 0.0]), ([5, 5], [0, 0]))
    chosen = choose([one, two], 0.05)
    assert (chosen.curve, chosen.strength, chosen.forget) == (one, 1, 0.5)
    assert chosen.test.rise(forget=False).tolist() == [9]
    assert chosen.describe()["strength"] == 2


def test_nothing_is_chosen_where_nothing_is_within_the_budget():
    costly = curve("costly", ([1.0], [1.0]), ([1.0], [1.0]))
    cheaper = curve("cheaper", ([1.0], [0.5]), ([1.0], [0.5]))
    chosen = choose([costly, cheaper], 0.1)
    assert chosen.curve is cheaper  # it would forget more at the budget
    assert chosen.strength is None
    assert chosen.test.rise(forget=True).tolist() == [0]
    harmful = choose([curve("harmful", ([-1.0], [0.0]), ([1.0], [0.0]))], 0.1)
    assert harmful.strength is None


@pytest.mark.parametrize(
    ("forget", "retain", "expected"),
    [
        ([1.0], [0.0], 1.0),
        ([1.0], [1.0], 0.0),
        ([0.0], [0.0], 0.0),
        ([0.0], [1.0], -1.0),
        ([3.0, 0.0], [1.0, 0.0], 0.25),
    ],
)
def test_selectivity(forget: list[float], retain: list[float], expected: float):
    assert selectivity(np.array(forget), np.array(retain)) == expected


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=6))
def test_figures_stay_within_their_bounds(points: list[tuple[float, float]]):
    forget, retain = (np.array(each) for each in zip(*points, strict=True))
    assert -1 <= selectivity(forget, retain) <= 1
    assert 0 <= in_box(2.0, 0.5)(forget, retain) <= 1
    assert 0 <= at_budget(0.05)(forget, retain) <= max(0.0, forget.max())


def test_samples_recompute_the_whole_curve(tiny: TaskContext):
    rng = np.random.default_rng(0)
    side = np.repeat([True, False], 30)
    sums = np.stack([s * np.where(side, 1 + rng.normal(size=60), 0.1 * rng.random(60)) for s in (1, 2)])
    resamples, test = Resamples(tiny, 200), Changes(sums, np.ones(60), side)
    value, replicates = resamples.figure(test, at_budget(0.05))
    assert value == pytest.approx(at_budget(0.05)(*test.rises()))
    forget, retain = (resamples.weights(30, unit)[7] for unit in ("forget", "retain"))
    expected = at_budget(0.05)(forget @ sums[:, side].T / 30, retain @ sums[:, ~side].T / 30)
    assert replicates[7] == pytest.approx(expected)
    assert not np.array_equal(forget, retain)  # drawn apart
    found = percentile(value, replicates, 30)
    assert found.ci_low < value < found.ci_high
    assert resamples.weights(30, "forget") is Resamples(tiny, 200).weights(30, "forget")  # the same for every SAE


def test_no_interval_from_one_document_or_what_is_not_scored():
    assert np.isnan(percentile(1.0, np.ones(10), 1).ci_low)
    assert np.isnan(percentile(1.0, np.array([1.0, np.nan]), 5).ci_high)
