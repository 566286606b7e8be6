"""Trade-offs by hand, and the bootstrap of what is read off them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.passes.context import TaskContext
from saebench.stats.frontier import effect_at_cost
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.scoring.curves import (
    AT_BUDGET,
    Curve,
    CurveMetrics,
    LossRises,
    curve_metrics,
    selectivity,
)
from saebench.tasks.unlearning.scoring.samples import Samples, percentile
from saebench.tasks.unlearning.selection import choose, headline_method
from saebench.tasks.unlearning.settings import UnlearningSettings

SETTINGS = UnlearningSettings(retain_budget=0.05, box_forget=2.0, box_retain=0.5)
IS_FORGET = np.array([True, True, False, False])


def rises(forget: list[float], retain: list[float]) -> LossRises:
    """The rises of four documents with two predictions each; at each strength, those of a side rise equally."""
    sums = np.array([[2 * f, 2 * f, 2 * r, 2 * r] for f, r in zip(forget, retain, strict=True)]).reshape(-1, 4)
    return LossRises(sums, np.full(4, 2.0), IS_FORGET)


def curve(validation: tuple[list[float], list[float]], test: tuple[list[float], list[float]]) -> Curve:
    strengths = tuple(range(1, len(test[0]) + 1))
    return Curve(UnlearningSweep("clamp", strengths, ()), rises(*validation), rises(*test))


def test_rises_are_per_token():
    by_hand = LossRises(np.array([[1.0, 3.0, 2.0, 0.0]]), np.array([1.0, 3.0, 4.0, 4.0]), IS_FORGET)
    assert by_hand.per_token("forget").tolist() == [1.0]
    assert by_hand.per_token("retain").tolist() == [0.25]
    weights = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert by_hand.per_token("forget", weights).tolist() == [[1.0], [1.0]]
    assert by_hand.at(None).per_token("forget").tolist() == [0.0]


def test_the_setting_is_chosen_on_validation_alone():
    one = curve(([0.1, 0.5, 0.9], [0.0, 0.04, 0.2]), ([9, 0, 9], [0, 9, 0]))
    two = curve(([0.2, 0.4], [0.0, 0.0]), ([5, 5], [0, 0]))
    point = choose([one, two], 0.05)
    assert (point.curve, point.place, point.forgetting) == (one, 1, 0.5)
    assert point.test.per_token("retain").tolist() == [9]
    assert point.note()["strength"] == 2


def test_nothing_is_chosen_where_nothing_is_within_the_budget():
    costly = curve(([1.0], [1.0]), ([1.0], [1.0]))
    cheaper = curve(([1.0], [0.5]), ([1.0], [0.5]))
    point = choose([costly, cheaper], 0.1)
    assert point.curve is cheaper  # it would forget more at the budget
    assert point.place is None
    assert point.test.per_token("forget").tolist() == [0]
    harmful = choose([curve(([-1.0], [0.0]), ([1.0], [0.0]))], 0.1)
    assert harmful.place is None


def test_the_headline_forgets_most_at_its_setting_and_then_at_the_budget():
    nothing = choose([curve(([1.0], [1.0]), ([9.0], [0.0]))], 0.1)
    nearer = choose([curve(([1.0], [0.5]), ([0.0], [0.0]))], 0.1)
    chosen = choose([curve(([0.01], [0.0]), ([0.0], [0.0]))], 0.1)
    assert headline_method({"clamp": nothing, "dsg": nearer}, 0.1) == "dsg"
    assert headline_method({"clamp": nothing, "conditional": chosen, "dsg": nearer}, 0.1) == "conditional"
    assert headline_method({"clamp": chosen, "dsg": chosen}, 0.1) == "clamp"


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
def test_metrics_stay_within_their_bounds(points: list[tuple[float, float]]):
    forget, retain = (np.array(values) for values in zip(*points, strict=True))
    values = {metric: compute(forget, retain) for metric, compute in curve_metrics(SETTINGS).items()}
    assert -1 <= values["selectivity"] <= 1
    assert 0 <= values["hypervolume"] <= 1
    assert 0 <= values[AT_BUDGET] <= max(0.0, forget.max())


def test_samples_recompute_the_whole_curve(tiny: TaskContext):
    rng = np.random.default_rng(0)
    side = np.repeat([True, False], 30)
    sums = np.stack([s * np.where(side, 1 + rng.normal(size=60), 0.1 * rng.random(60)) for s in (1, 2)])
    samples, test = Samples(tiny, 200), LossRises(sums, np.ones(60), side)
    value, *replicates = CurveMetrics(samples, SETTINGS).values(test)[AT_BUDGET]
    assert value == pytest.approx(effect_at_cost(*test.both_sides(), 0.05))
    forget, retain = (samples.weights(30, unit)[7] for unit in ("forget", "retain"))
    expected = effect_at_cost(forget @ sums[:, side].T / 30, retain @ sums[:, ~side].T / 30, 0.05)
    assert replicates[7] == pytest.approx(expected)
    assert not np.array_equal(forget, retain)  # drawn separately
    interval = CurveMetrics(samples, SETTINGS).estimates(test)[AT_BUDGET]
    assert interval.ci_low < value < interval.ci_high
    assert samples.weights(30, "forget") is Samples(tiny, 200).weights(30, "forget")  # the same for every SAE


def test_a_difference_is_taken_on_the_same_samples(tiny: TaskContext):
    metrics = CurveMetrics(Samples(tiny, 100), SETTINGS)
    test = rises([1.0, 2.0], [0.0, 0.1])
    difference = metrics.difference_at_budget(test, rises([1.0, 2.0], [0.0, 0.1]))
    assert (difference.value, difference.ci_low, difference.ci_high) == (0, 0, 0)


def test_no_interval_from_one_document_or_what_is_not_scored():
    assert np.isnan(percentile(np.ones(11), 1).ci_low)
    assert np.isnan(percentile(np.array([1.0, 1.0, np.nan]), 5).ci_high)
