"""The quiver against a loop that follows its definition, and the cases that decide whether it is fair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.tasks.sparse_probing.selection import choose_methods

NAN = float("nan")
SCORES = st.sampled_from([0.5, 0.7, 0.8, 0.8, 0.9, NAN])


def rows(*values):
    return np.array([values], dtype=float)


def definition(baseline_val, baseline_auc, sae_val, sae_auc):
    """One dataset, by the words of the paper: argmax of validation AUC, ties prefer the SAE."""

    def argmax(arrows):
        usable = [arrow for arrow in arrows if not np.isnan(arrow[0])]
        return max(usable, key=lambda arrow: arrow[0]) if usable else None

    baseline = argmax([(val, auc, False) for val, auc in zip(baseline_val, baseline_auc, strict=True)])
    both = argmax(
        [(val, auc, True) for val, auc in zip(sae_val, sae_auc, strict=True)]
        + [(val, auc, False) for val, auc in zip(baseline_val, baseline_auc, strict=True)]
    )
    if baseline is None or np.isnan(baseline[1]) or np.isnan(both[1]):
        return NAN, NAN, NAN
    return baseline[1], both[1] - baseline[1], float(both[2])


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=4), st.lists(st.tuples(SCORES, SCORES), max_size=4))
def test_choices_are_those_of_the_definition(baselines, saes):
    columns = [[arrow[side] for arrow in arrows] for arrows in (baselines, saes) for side in (0, 1)]
    found = choose_methods(*(np.array([column], dtype=float).reshape(1, -1) for column in columns))
    expected = definition(*columns)
    np.testing.assert_array_equal([found.auc[0], found.gain[0], found.took_sae[0]], expected)


def test_the_test_scores_choose_nothing():
    found = choose_methods(rows(0.9, 0.8), rows(0.6, 0.99), rows(0.85), rows(1.0))
    assert (found.auc[0], found.gain[0], found.took_sae[0]) == (0.6, 0.0, 0.0)


def test_an_sae_probe_that_validates_better_is_taken_even_where_it_tests_worse():
    found = choose_methods(rows(0.9), rows(0.95), rows(0.91), rows(0.90))
    assert found.gain[0] == pytest.approx(-0.05)
    assert found.took_sae[0] == 1


def test_ties_go_to_the_sae():
    assert choose_methods(rows(1.0), rows(0.9), rows(1.0), rows(0.9)).took_sae[0] == 1


def test_datasets_are_chosen_for_one_by_one():
    found = choose_methods(
        np.array([[0.9], [0.5]]), np.array([[0.8], [0.6]]), np.array([[0.6], [0.7]]), np.array([[0.1], [0.7]])
    )
    np.testing.assert_allclose(found.gain, [0, 0.1])
    np.testing.assert_array_equal(found.took_sae, [0, 1])
