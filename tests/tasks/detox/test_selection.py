"""Selection of latents by AUROC, and the AUROC's contributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from saebench.passes.activity import Activity
from saebench.stats.selection import auroc_contributions
from saebench.tasks.detox.selection import (
    LatentSet,
    ToxicLatents,
    latent_set,
    matched_set,
    pooled,
    select_toxic,
    with_pooling,
)
from saebench.tasks.detox.settings import DetoxSettings

TOXIC = np.arange(40) < 20


def of(maximum: NDArray[np.float64], tokens: int = 4) -> Activity:
    """Each latent fires once in a text, at its maximum."""
    table = csr_matrix(maximum.astype(np.float32))
    return Activity(table, table, csr_matrix((maximum != 0).astype(np.float32)), np.full(len(maximum), tokens))


def test_a_latent_that_always_fires_detects_nothing_however_large_it_is():
    rng = np.random.default_rng(0)
    always = of(1 + rng.uniform(size=(40, 3)) + 5 * TOXIC[:, None])
    fires = DetoxSettings(latents=(1, 3), min_auroc=0.6, pooling="fires")
    found = select_toxic(always, TOXIC, always, TOXIC, fires)
    assert (found.latents.indices, found.passed) == ([], 0)
    assert roc_auc_score(TOXIC, found.latents.score(always, "fires")) == 0.5
    by_size = select_toxic(always, TOXIC, always, TOXIC, with_pooling(fires, "max"))
    assert by_size.fit_auroc == [1.0]


def test_a_latent_of_a_concept_is_found_although_it_fires_weakly_everywhere():
    """A second latent fires in half of the toxic texts and nowhere else."""
    half = np.where(TOXIC, np.arange(40) % 2, 0)
    activity = of(np.stack([0.1 + 5.0 * TOXIC, 2.0 * half], axis=1))
    settings = DetoxSettings(latents=(1,), min_auroc=0.6)
    assert select_toxic(activity, TOXIC, activity, TOXIC, settings).latents.indices == [0]
    by_firing = with_pooling(settings, "fires")
    assert select_toxic(activity, TOXIC, activity, TOXIC, by_firing).latents.indices == [1]


def test_detection_counts_the_latents_that_fire():
    activity = of(np.array([[2.0, 0.0, 1.0], [0.0, 8.0, 0.1], [0.0, 0.0, 9.0]]))
    assert pooled(activity, "fires").toarray().tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 1]]
    assert LatentSet([0, 1], [2.0, 8.0]).score(activity, "fires").tolist() == [0.5, 0.5, 0.0]


def draw(seed: int, shifts: tuple[float, ...]) -> Activity:
    rng = np.random.default_rng(seed)
    return of(np.maximum(rng.normal(size=(40, len(shifts))) + np.outer(TOXIC, shifts), 0))


def find(numbers: list[int], min_auroc: float = 0.6, shifts: tuple[float, ...] = (0, 3, 0, 1.5, -3)) -> ToxicLatents:
    wanted = DetoxSettings(latents=tuple(numbers), min_auroc=min_auroc, pooling="max")
    return select_toxic(draw(0, shifts), TOXIC, draw(1, shifts), TOXIC, wanted)


def test_latents_come_by_auroc_and_not_those_of_neutral_text():
    found = find([2])
    assert found.latents.indices == [1, 3]
    expected = [roc_auc_score(TOXIC, draw(0, (0, 3, 0, 1.5, -3)).maximum.toarray()[:, j]) for j in (1, 3)]
    assert found.fit_auroc == pytest.approx(expected)
    assert found.passed >= 2
    values = draw(0, (0, 3, 0, 1.5, -3)).maximum.toarray()
    assert found.latents.scales == pytest.approx([values[:, j][values[:, j] > 0].mean() for j in (1, 3)])


def test_their_number_is_that_which_serves_best_on_validation():
    found = find([1, 2, 5], min_auroc=0.5)
    best = max(found.validation_auroc.values())
    assert found.validation_auroc[len(found.latents)] == best
    for n, value in found.validation_auroc.items():
        scores = latent_set(draw(0, (0, 3, 0, 1.5, -3)), np.array(find([n], 0.5).latents.indices))
        assert value == pytest.approx(roc_auc_score(TOXIC, scores.score(draw(1, (0, 3, 0, 1.5, -3)), "max")))


def test_of_equal_sets_the_smallest():
    found = find([1, 2], shifts=(9, 9))
    assert found.validation_auroc == {1: 1.0, 2: 1.0}
    assert len(found.latents) == 1


def test_none_passes():
    found = find([1, 4], min_auroc=0.99, shifts=(0, 0, 0))
    assert (found.latents.indices, found.passed, found.validation_auroc) == ([], 0, {})
    assert found.latents.score(draw(1, (0, 0, 0)), "max").tolist() == [0.0] * 40
    assert matched_set(draw(0, (0, 0, 0)), found.latents, np.random.default_rng(0)).indices == []


def test_means_are_over_all_tokens():
    activity = of(np.array([[2.0, 0.0], [0.0, 8.0]]), tokens=4)
    assert pooled(activity, "mean").toarray().tolist() == [[0.5, 0.0], [0.0, 2.0]]
    assert LatentSet([1], [2.0]).score(activity, "mean").tolist() == [0.0, 1.0]


def test_the_control_holds_other_latents():
    fit = draw(0, (0,) * 30)
    chosen = latent_set(fit, np.array([3, 7]))
    control = matched_set(fit, chosen, np.random.default_rng(0))
    assert len(set(control.indices)) == 2
    assert not set(control.indices) & {3, 7}


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=12))
def test_contributions_average_to_the_auroc(pairs: list[tuple[int, int]]):
    scores = np.array(pairs, dtype=np.float64).T.ravel()
    toxic = np.repeat([True, False], len(pairs))
    found = auroc_contributions(scores[toxic], scores[~toxic])
    assert found.shape == (len(pairs),)
    assert found.mean() == pytest.approx(roc_auc_score(toxic, scores))


def test_their_spread_is_delongs():
    rng = np.random.default_rng(0)
    bad, good = rng.normal(0.8, 1, 200), rng.normal(0, 1, 200)
    found = auroc_contributions(bad, good)
    below = np.array([(good < x).mean() for x in bad])
    above = np.array([(bad > x).mean() for x in good])
    delong = below.var(ddof=1) / 200 + above.var(ddof=1) / 200
    assert found.var(ddof=1) / 200 == pytest.approx(delong, rel=0.3)  # but for the chance covariance of pairs
