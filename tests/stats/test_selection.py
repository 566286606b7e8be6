"""Selections by hand, and AUROC against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from saebench.errors import DataError
from saebench.stats import selection
from saebench.stats.selection import auroc, frequency_matched, mean_difference, sparsity_ratio, squared_mean_ratio


def test_sparsity_ratio_by_hand():
    forget = np.array([0.5, 0.2, 0.0, 0.3, 0.2, 0.9])
    retain = np.array([0.001, 0.0, 0.0, 0.0099, 0.002, 0.01])
    assert sparsity_ratio(forget, retain, retain_threshold=0.01, n=10).tolist() == [0, 3, 1, 4]  # below, not at
    assert sparsity_ratio(forget, retain, retain_threshold=0.01, n=2).tolist() == [0, 3]
    assert sparsity_ratio(forget, retain, retain_threshold=0.001, n=10).tolist() == [1]
    none = sparsity_ratio(forget, retain + 1, retain_threshold=0.01, n=10)
    assert none.dtype == np.int64
    assert none.tolist() == []


def test_squared_mean_ratio_by_hand():
    forget = np.array([4.0, 0.0, 1.0, -3.0, 2.0])
    retain = np.array([4.0, 0.0, 0.5, 1.0, 0.0])
    # Ratios 1, 0, 4, 9 and 4e21. The median of them is 4.
    assert squared_mean_ratio(forget, retain, ratio_percentile=50, n=10).tolist() == [3, 4, 2]
    assert squared_mean_ratio(forget, retain, ratio_percentile=50, n=2).tolist() == [3, 4]
    assert squared_mean_ratio(forget, retain, n=10).tolist() == [4]
    assert squared_mean_ratio(np.zeros(5), retain, n=10).tolist() == []


def test_mean_difference_takes_a_latent_that_also_fires_elsewhere():
    forget, retain = np.array([5.0, 0.5, 1.0, 0.0, 2.0]), np.array([1.0, 0.0, 1.0, 3.0, 0.5])
    assert mean_difference(forget, retain, n=10).tolist() == [0, 4, 1]
    assert mean_difference(forget, retain, n=1).tolist() == [0]
    assert sparsity_ratio([0.9, 0.1], [0.02, 0.0], retain_threshold=0.01, n=2).tolist() == [1]  # and this rule does not


def test_latents_with_the_lowest_forget_scores_are_left_out_whatever_their_ratio():
    forget, retain = np.arange(1.0, 101.0), np.ones(100)
    retain[:3] = 0  # 1, 2 and 3 have the highest ratios, but lie below the 5th percentile
    assert squared_mean_ratio(forget, retain, ratio_percentile=90, n=100).tolist() == [99, 98, 97, 96, 95, 94, 93]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 4), st.sampled_from([0.0, 0.3, 1.0]))
def test_auroc_is_that_of_scikit_learn(seed: int, rows: int, columns: int, density: float):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 4, (rows, columns)).astype(np.float32) * (rng.random((rows, columns)) < density)
    labels = rng.random(rows) < 0.5
    labels[:2] = [True, False]
    expected = [roc_auc_score(labels, column) for column in scores.T]
    np.testing.assert_allclose(auroc(scores, labels), expected, atol=1e-12)
    np.testing.assert_allclose(auroc(csr_matrix(scores), labels), expected, atol=1e-12)


def test_auroc_in_blocks_of_columns(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    scores = csr_matrix(rng.random((40, 23)) * (rng.random((40, 23)) < 0.4))
    labels = rng.random(40) < 0.4
    whole = auroc(scores, labels)
    monkeypatch.setattr(selection, "_BLOCK", 40 * 5)
    assert np.array_equal(auroc(scores, labels), whole)
    assert np.array_equal(auroc(scores.toarray(), labels), whole)
    assert auroc(scores[:, :0], labels).shape == (0,)


def test_auroc_of_stored_zeros_and_of_a_perfect_latent():
    labels = np.array([True, True, False, False])
    stored = csr_matrix((np.array([0.0, 1.0, 0.0]), (np.array([0, 1, 2]), np.array([0, 0, 0]))), shape=(4, 2))
    assert auroc(stored, labels).tolist() == [0.75, 0.5]
    assert auroc(np.array([[2.0, -1], [1, -1], [0, 0], [0, 0]]), labels).tolist() == [1.0, 0.0]


def test_auroc_refuses_one_class_and_nan():
    for labels in (np.ones(3, bool), np.zeros(3, bool)):
        with pytest.raises(DataError, match="two classes"):
            auroc(np.ones((3, 2)), labels)
    with pytest.raises(DataError, match="NaN"):
        auroc(np.array([[1.0], [np.nan]]), np.array([True, False]))


@given(st.integers(0, 10**6))
def test_frequency_matched_latents_are_others_each_near_in_rate(seed: int):
    rng = np.random.default_rng(seed)
    rates = rng.random(200) * (rng.random(200) < 0.9)
    chosen = rng.choice(np.flatnonzero(rates), 20, replace=False)
    drawn = frequency_matched(rates, chosen, rng)
    assert drawn.dtype == np.int64
    assert len(set(drawn.tolist())) == 20
    assert not set(drawn.tolist()) & set(chosen.tolist())
    assert (rates[drawn] > 0).all()
    others = np.setdiff1d(np.flatnonzero(rates), chosen)
    for wanted, got in zip(chosen, drawn, strict=True):
        nearer = (np.abs(rates[others] - rates[wanted]) < np.abs(rates[got] - rates[wanted])).sum()
        assert nearer < 10 + 20  # those drawn before it are not free any more


def test_frequency_matched_depends_on_the_generator_and_reaches_all_of_the_ten_nearest():
    rates = np.linspace(0.01, 0.5, 50)
    found = {int(frequency_matched(rates, np.array([25]), np.random.default_rng(seed))[0]) for seed in range(200)}
    assert found == set(range(20, 31)) - {25}


def test_silent_latents_come_last_and_too_few_others_are_refused():
    rates, rng = np.array([0.1, 0.1, 0.9, 0.8, 0.0, 0.0]), np.random.default_rng(0)
    more = np.concatenate([rates, np.linspace(0.3, 0.4, 12)])
    draws = [frequency_matched(more, np.array([0, 1]), np.random.default_rng(seed)) for seed in range(50)]
    assert not {4, 5} & set(np.concatenate(draws).tolist())
    assert set(frequency_matched(rates, np.array([0, 1, 2]), rng).tolist()) == {3, 4, 5}
    with pytest.raises(DataError, match="choose fewer"):
        frequency_matched(rates, np.array([0, 1, 2, 3]), rng)
    assert frequency_matched(rates, np.array([], np.int64), rng).tolist() == []
