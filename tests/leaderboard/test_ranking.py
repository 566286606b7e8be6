"""Hand-worked rankings, and what must hold of every ranking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from saebench.leaderboard.ranking import Column, Rank, mean_rank, rank
from saebench.results.paired import Scored


def scored(units: list[float] | np.ndarray, unit: str = "sequence") -> Scored:
    num = np.asarray(units, float)
    value, spread = float(num.mean()), float(num.std(ddof=1) / len(num) ** 0.5)
    ends = (value - 1.96 * spread, value + 1.96 * spread)
    return Scored(value, spread, *ends, len(num), unit, "bca-bootstrap", "", num, np.ones(len(num)))


def stated(value: float | None, stderr: float | None) -> Scored:
    """A number without contributions."""
    return Scored(value, stderr, None, None, 10, "sequence", "", "" if value is not None else "no", None, None)


def column(scores, higher: bool = True, task: str = "t", metric: str = "m") -> Column:
    return Column(task, metric, higher, tuple(scores))


def ranks(*columns: Column, **options) -> tuple[Rank | None, ...]:
    return rank(columns, [True] * len(columns[0].scores), **options).ranks


NOISE = np.random.default_rng(0).normal(size=40)
SURE, DOUBT = 0.01, 100.0


def around(mean: float, spread: float = SURE, shift: int = 0) -> Scored:
    """``mean`` with noise that is shared with rows of the same ``shift``."""
    noise = np.roll(NOISE, shift)
    return scored(mean + spread * (noise - noise.mean()))


def test_mean_rank_by_hand():
    fvu, ce = np.array([0.1, 0.2, 0.3]), -np.array([0.9, 0.8, 0.8])  # less is better
    auc = -np.array([0.5, 0.7, 0.6])
    found = mean_rank([("core", fvu), ("core", ce), ("probing", auc)])
    # core: (1, 2, 3) and (1, 2.5, 2.5) -> 1, 2.25, 2.75; probing: 3, 1, 2
    np.testing.assert_allclose(found, [2.0, 1.625, 2.375])


def test_a_task_with_many_metrics_weighs_no_more_than_one_with_a_single_metric():
    many = [("a", np.array([1.0, 2.0]))] * 9
    np.testing.assert_array_equal(mean_rank([*many, ("b", np.array([2.0, 1.0]))]), [1.5, 1.5])


def test_decided_rows_have_places_of_their_own():
    assert ranks(column([around(0.2, shift=1), around(0.9, shift=2), around(0.5, shift=3)])) == (
        Rank(3, 3, 3.0, 3, 3),
        Rank(1, 1, 1.0, 1, 1),
        Rank(2, 2, 2.0, 2, 2),
    )


def test_lower_is_better_turns_the_order():
    first, second = ranks(column([around(0.2), around(0.9)], higher=False))
    assert (first.place, second.place) == (1, 2)


def test_all_equal():
    assert set(ranks(column([around(0.5)] * 4))) == {Rank(1, 4, 2.5, 1, 4)}


def test_undecided_rows_share_a_place_beside_a_decided_one():
    first, second, third = ranks(column([around(10.0, 5, 1), around(9.9, 5, 7), around(-500.0, 5, 13)]))
    assert (first.place, first.shared_to) == (second.place, second.shared_to) == (1, 2)
    assert (third.place, third.shared_to, third.low, third.high) == (3, 3, 3, 3)


def test_a_row_between_two_decided_ones_shares_with_both():
    a, b, c = ranks(column([stated(0.0, 1.0), stated(2.0, 1.0), stated(4.0, 1.0)], higher=False))
    assert [(row.place, row.shared_to) for row in (a, b, c)] == [(1, 2), (1, 3), (2, 3)]


def test_pairing_decides_what_separate_intervals_do_not():
    low, high = scored(NOISE * DOUBT), scored(NOISE * DOUBT + 1)
    assert low.ci_high > high.ci_low
    assert [row.place for row in ranks(column([low, high]))] == [2, 1]
    alone = [stated(score.value, score.stderr) for score in (low, high)]
    assert [row.place for row in ranks(column(alone))] == [1, 1]


@pytest.mark.parametrize("unit", ["latent", "run"])
def test_units_of_an_sae_are_not_paired_with_those_of_another(unit):
    rows = [scored(NOISE * DOUBT, unit), scored(NOISE * DOUBT + 1, unit)]
    assert [row.place for row in ranks(column(rows))] == [1, 1]


def test_different_numbers_of_units_are_not_paired():
    rows = [scored(NOISE * DOUBT), scored(NOISE[:30] * DOUBT + 1)]
    assert [row.place for row in ranks(column(rows))] == [1, 1]


def test_a_number_without_uncertainty_decides_nothing():
    assert {(row.place, row.shared_to) for row in ranks(column([stated(0.0, None), stated(1.0, None)]))} == {(1, 2)}


def test_a_number_known_exactly_decides():
    assert [row.place for row in ranks(column([stated(0.0, 0.0), stated(1.0, 0.0)]))] == [2, 1]


def test_an_interval_wider_than_the_standard_error_counts():
    wide = [Scored(v, 0.01, v - 5, v + 5, 3, "run", "jackknife-t", "", None, None) for v in (0.0, 1.0)]
    assert [row.place for row in ranks(column(wide))] == [1, 1]


def test_incomplete_rows_stand_apart_and_do_not_count_in_the_ranks_of_others():
    rows = [around(0.2), around(0.3), around(0.9)]
    found = rank([column(rows, task="a"), column([around(0.5), around(0.6), None], task="b")], [True] * 3)
    assert found.ranks == (Rank(2, 2, 2.0, 2, 2), Rank(1, 1, 1.0, 1, 1), None)
    assert (found.tasks, found.completed) == (("a", "b"), (2, 2, 1))


def test_a_task_lacks_a_row_when_one_of_its_metrics_is_not_scored():
    found = rank([column([around(1), stated(None, None), around(2)]), column([around(1)] * 3, metric="n")], [True] * 3)
    assert found.completed == (1, 0, 1)
    assert found.ranks[1] is None


def test_a_metric_that_nobody_scored_does_not_count():
    unscored = column([None, stated(None, None)], task="empty")
    found = rank([column([around(1), around(2)]), unscored], [True, True])
    assert (found.tasks, found.completed) == (("t",), (1, 1))


def test_controls_are_never_ranked_whatever_they_score():
    rows = [around(0.2), around(0.9), around(0.3)]
    found = rank([column(rows)], [True, False, True])
    assert found.ranks == (Rank(2, 2, 2.0, 2, 2), None, Rank(1, 1, 1.0, 1, 1))
    assert found.completed == (1, 1, 1)


def test_a_task_that_only_controls_completed_does_not_count():
    found = rank([column([None, around(1.0)])], [True, False])
    assert (found.tasks, found.completed) == ((), (0, 0))


@pytest.mark.parametrize("columns", [[], [column([around(1.0)])]])
def test_fewer_than_two_rows_are_not_ranked(columns):
    assert rank(columns, [True] * len(columns)).ranks == (None,) * len(columns)


def test_a_ratio_that_passes_through_infinity_falls_back_to_what_is_stated():
    num, den = np.array([1.0, 1.0, 1.0]), np.array([5.0, -2.0, -2.0])
    odd = [Scored(v, None, None, None, 3, "sequence", "", "", num, den) for v in (1.0, 3.0)]
    assert {(row.place, row.shared_to) for row in ranks(column(odd))} == {(1, 2)}


def test_the_same_input_gives_the_same_ranks():
    rows = [around(i / 50, 0.1, i) for i in range(6)]
    assert ranks(column(rows)) == ranks(column(rows))


matrices = stn.arrays(float, st.tuples(st.integers(2, 5), st.integers(2, 6)), elements=st.integers(-3, 3).map(float))


@settings(max_examples=25)
@given(matrices, st.integers(1, 3))
def test_intervals_hold_the_point(units, n_metrics):
    columns = [
        column([scored(row) for row in np.roll(units, k, axis=1) ** (k + 1)], metric=f"m{k}") for k in range(n_metrics)
    ]
    found = ranks(*columns, replicates=200)
    means = [row.mean for row in found]
    assert sum(means) == pytest.approx(len(found) * (len(found) + 1) / 2)
    for row in found:
        best, worst = 1 + sum(m < row.mean for m in means), sum(m <= row.mean for m in means)
        assert 1 <= row.low <= row.place <= best <= worst <= row.shared_to <= row.high <= len(found)


@settings(max_examples=25)
@given(matrices)
def test_turning_the_direction_reverses_the_order(units):
    rows = [scored(row) for row in units]
    up, down = (ranks(column(rows, higher), replicates=200) for higher in (True, False))
    n = len(rows)
    for one, other in zip(up, down, strict=True):
        assert one.mean == n + 1 - other.mean
        assert (one.place, one.shared_to) == (n + 1 - other.shared_to, n + 1 - other.place)
        assert (one.low, one.high) == (n + 1 - other.high, n + 1 - other.low)


def test_rows_on_other_units_are_not_drawn_together():
    """What the rows share is no help where their units are not the same."""
    alike = [replace(around(mean, 0.3), units="a") for mean in (0.5, 0.51)]
    apart = [alike[0], replace(alike[1], units="b")]
    old = [alike[0], replace(alike[1], units="")]
    assert [each.shared_to for each in ranks(column(alike)) if each] == [2, 1]
    assert [each.shared_to for each in ranks(column(old)) if each] == [2, 1]
    assert [each.shared_to for each in ranks(column(apart)) if each] == [2, 2]
