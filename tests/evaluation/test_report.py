"""Measurements from estimates: keys of contributions, and what is not a number."""

from __future__ import annotations

import numpy as np

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.stats.intervals import Estimate

NAN = float("nan")
CONTRIBUTIONS = (np.array([1.0, 2.0]), np.array([2.0, 2.0]))


def test_a_number_with_its_contributions():
    output = TaskOutput([])
    add(output, "auc", Estimate(0.75, 0.1, 0.5, 0.9, 2, "bca-bootstrap"), "dataset", "why", contributions=CONTRIBUTIONS)
    (found,) = output.measurements
    assert (found.value, found.stderr, found.ci_low, found.ci_high, found.n) == (0.75, 0.1, 0.5, 0.9, 2)
    assert (found.unit, found.interval, found.subset, found.not_scored) == ("dataset", "bca-bootstrap", "", None)
    assert found.contributions == "auc"
    assert {name: array.tolist() for name, array in output.arrays.items()} == {
        "auc.num": [1.0, 2.0],
        "auc.den": [2.0, 2.0],
    }


def test_a_subset_has_arrays_of_its_own():
    output = TaskOutput([])
    for subset in ("", "k=1"):
        add(output, "auc", Estimate(0.7, 0, 0, 0, 2, "m"), "dataset", None, subset, CONTRIBUTIONS)
    assert [m.contributions for m in output.measurements] == ["auc", "auc/k=1"]
    assert [m.subset for m in output.measurements] == ["", "k=1"]
    assert sorted(output.arrays) == ["auc.den", "auc.num", "auc/k=1.den", "auc/k=1.num"]


def test_what_is_not_finite_is_not_scored_for_the_reason_given():
    output = TaskOutput([])
    for value in (NAN, float("inf")):
        add(output, "auc", Estimate(value, NAN, NAN, float("inf"), 0, "normal"), "dataset", "one class")
    for found in output.measurements:
        assert found.value is None
        assert found.not_scored == "one class"
        assert (found.stderr, found.ci_low, found.ci_high, found.contributions) == (None, None, None, None)
    assert output.arrays == {}


def test_a_value_without_interval_is_scored():
    output = TaskOutput([])
    add(output, "auc", Estimate(0.5, NAN, NAN, NAN, 1, "normal"), "dataset", "why")
    assert output.measurements[0].value == 0.5
    assert output.measurements[0].not_scored is None
