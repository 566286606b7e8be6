"""The report: contributions are kept, what is not finite is not scored, and unknown metrics are refused."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saebench.errors import SaebenchError
from saebench.evaluation import Report, subset_name
from saebench.passes.context import TaskContext
from saebench.results.record import Measurement
from saebench.results.units import units_hash
from saebench.stats.intervals import Estimate, bootstrap_ratio, resampling_weights
from tests.cards.made_up import card, metric

NAN, INF = float("nan"), float("inf")
CARD = card("probing", [metric("auc", True, primary=True), metric("auc_gap", False), metric("latents", None)])
PARTS = (np.array([1.0, 2.0, 0.5, 0.9, 1.2, 0.3, 1.9]), np.array([2.0, 2.0, 1.0, 1.0, 2.0, 1.0, 2.0]))
N, VALUE = 7, 7.8 / 11


class Draws:
    """A context that has nothing but bootstrap draws."""

    def bootstrap_weights(self, n_units: int, replicates: int) -> NDArray[np.float64]:
        return resampling_weights(n_units, replicates, np.random.default_rng(0))


def empty(replicates: int = 50) -> Report:
    return Report(CARD, cast(TaskContext, Draws()), replicates)


def only(report: Report) -> Measurement:
    (found,) = report.output().measurements
    return found


def test_a_ratio_has_an_interval_and_its_contributions():
    report = empty()
    estimate = report.ratio("auc", PARTS, unit="dataset", why="one class")
    output = report.output()
    assert estimate == bootstrap_ratio(*PARTS, Draws().bootstrap_weights(N, 50), (0.0, 1.0))
    (found,) = output.measurements
    assert (found.value, found.n, found.unit, found.subset) == (pytest.approx(VALUE), N, "dataset", "")
    assert (found.stderr, found.ci_low, found.ci_high) == (estimate.stderr, estimate.ci_low, estimate.ci_high)
    assert (found.interval, found.contributions, found.not_scored) == (estimate.method, "auc", None)
    assert output.arrays.keys() == {"auc.num", "auc.den"}
    np.testing.assert_array_equal(output.arrays["auc.num"], PARTS[0])
    np.testing.assert_array_equal(output.arrays["auc.den"], PARTS[1])


def test_draws_may_be_given():
    weights = resampling_weights(N, 20, np.random.default_rng(1))
    report = empty()
    assert report.ratio("auc", PARTS, unit="dataset", why="one class", weights=weights) == bootstrap_ratio(
        *PARTS, weights, (0.0, 1.0)
    )


def test_no_interval_leaves_the_bounds_of_the_card():
    report = empty()
    scores = np.r_[np.ones(9), 0.4]
    assert bootstrap_ratio(scores, np.ones(10), Draws().bootstrap_weights(10, 50)).ci_high > 1
    assert report.ratio("auc", (scores, np.ones(10)), unit="dataset", why="one class").ci_high == 1
    report.estimate("auc", Estimate(0.95, 0.1, 0.75, 1.15, 9, "jackknife"), unit="dataset", why=None, subset="own")
    report.estimate("auc", Estimate(0.95, NAN, NAN, NAN, 9, "none"), unit="dataset", why=None, subset="point")
    found = report.output().measurements
    assert [(number.ci_low, number.ci_high) for number in found[1:]] == [(0.75, 1.0), (None, None)]


def test_the_bounds_of_the_card_tell_shares():
    report = empty()
    nothing = report.ratio("auc", (np.zeros(36), np.ones(36)), unit="dataset", why="one class")
    assert (nothing.method, nothing.ci_low) == ("agresti-coull", 0)
    assert 0.05 < nothing.ci_high < 0.15


def test_a_subset_has_arrays_of_its_own():
    report = empty()
    for subset in ("", "k=1", "k=1/news"):
        report.ratio("auc", PARTS, unit="dataset", why="one class", subset=subset)
    output = report.output()
    assert [number.subset for number in output.measurements] == ["", "k=1", "k=1/news"]
    assert [number.contributions for number in output.measurements] == ["auc", "auc/k=1", "auc/k=1/news"]
    assert sorted(output.arrays) == [
        f"auc{subset}.{part}" for subset in ("", "/k=1", "/k=1/news") for part in ("den", "num")
    ]


def test_an_estimate_without_contributions_has_no_arrays():
    report = empty()
    report.estimate("auc", Estimate(0.75, 0.1, 0.5, 0.9, 2, "jackknife"), unit="dataset", why=None)
    assert report.output().arrays == {}
    found = only(report)
    assert (found.value, found.stderr, found.ci_low, found.ci_high, found.n) == (0.75, 0.1, 0.5, 0.9, 2)
    assert (found.interval, found.contributions, found.not_scored) == ("jackknife", None, None)


def test_a_point_has_no_interval():
    report = empty()
    report.point("latents", 12, 3, unit="concept", why=None, subset="news")
    found = only(report)
    assert (found.value, found.stderr, found.ci_low, found.ci_high) == (12, None, None, None)
    assert (found.n, found.unit, found.interval, found.subset) == (3, "concept", "none", "news")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_what_is_not_finite_is_not_scored_and_never_replaced(value: float):
    report = empty()
    report.estimate("auc", Estimate(value, NAN, NAN, INF, 0, "normal"), unit="dataset", why="one class")
    found = only(report)
    assert (found.value, found.not_scored) == (None, "one class")
    assert (found.stderr, found.ci_low, found.ci_high) == (None, None, None)


def test_contributions_are_kept_where_the_ratio_is_not_scored():
    report = empty()
    estimate = report.ratio("auc", (np.zeros(2), np.zeros(2)), unit="dataset", why="no example")
    assert np.isnan(estimate.value)
    output = report.output()
    assert (output.measurements[0].value, output.measurements[0].not_scored) == (None, "no example")
    assert output.measurements[0].contributions == "auc"
    np.testing.assert_array_equal(output.arrays["auc.den"], np.zeros(2))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8))
def test_not_scored_is_counted(values: list[float]):
    report = empty()
    for value in values:
        report.point("auc", value, 1, unit="dataset", why="one class")
    output = report.output()
    missing = [number for number in output.measurements if number.value is None]
    assert output.counts == {"not_scored": len(missing)}
    assert len(missing) == sum(not np.isfinite(value) for value in values)
    assert all(number.not_scored == "one class" for number in missing)
    assert [number.value for number in output.measurements if number.value is not None] == [
        value for value in values if np.isfinite(value)
    ]


def test_counts_notes_and_arrays_are_kept():
    report = empty()
    report.count("sequences", 64)
    report.note("chosen", {"latents": [3, 5]})
    report.array("density", np.arange(3))
    output = report.output()
    assert output.measurements == []
    assert output.counts == {"sequences": 64, "not_scored": 0}
    assert output.notes == {"chosen": {"latents": [3, 5]}}
    np.testing.assert_array_equal(output.arrays["density"], np.arange(3))


def test_units_are_kept_by_kind_as_a_hash_of_their_content():
    report = empty()
    report.units("dataset", ["one", "two"])
    report.units("prompt", [["a", 1], ["b", 0]])
    report.units("dataset", ["one", "two"])  # the same once more
    assert report.output().units == {"dataset": units_hash(["one", "two"]), "prompt": units_hash([["a", 1], ["b", 0]])}
    assert empty().output().units == {}


@pytest.mark.parametrize("kind", ["latent", "pair", "run", "sae"])
def test_units_of_the_sae_itself_have_no_content_that_others_share(kind: str):
    with pytest.raises(SaebenchError, match=f"probing.*{kind!r}"):
        empty().units(kind, ["a"])


def test_a_kind_of_units_has_one_content():
    report = empty()
    report.units("prompt", ["a"])
    with pytest.raises(SaebenchError, match="Task 'probing' names two contents of its units 'prompt'"):
        report.units("prompt", ["b"])


@pytest.mark.parametrize("add", ["ratio", "estimate", "point"])
def test_a_metric_that_the_card_does_not_declare_is_refused(add: str):
    report = empty()
    with pytest.raises(SaebenchError) as error:
        if add == "ratio":
            report.ratio("auc_gab", PARTS, unit="dataset", why="one class")
        elif add == "estimate":
            report.estimate("auc_gab", Estimate(1, 1, 1, 1, 1, "m"), unit="dataset", why=None)
        else:
            report.point("auc_gab", 1.0, 1, unit="dataset", why=None)
    assert str(error.value) == ("The card of task 'probing' declares no metric 'auc_gab'. Did you mean 'auc_gap'?")
    output = report.output()
    assert (output.measurements, output.arrays) == ([], {}), "nothing of it is kept"


@pytest.mark.parametrize(
    ("parts", "name"),
    [(("auc", ""), "auc"), (("", "news"), "news"), (("a", "b", "c"), "a/b/c"), ((), ""), (("", ""), "")],
)
def test_subset_names(parts: tuple[str, ...], name: str):
    assert subset_name(*parts) == name
