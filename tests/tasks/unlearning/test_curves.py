"""What is lost of what was known, by hand; the choice on validation; and what cannot win."""

from __future__ import annotations

import numpy as np
import pytest

from saebench.passes.context import TaskContext
from saebench.stats.selection import auroc, auroc_contributions
from saebench.tasks.unlearning.data.topic import Vocabulary
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.scoring.curves import Curve, choose, headline_method
from saebench.tasks.unlearning.scoring.losses import Known, Losses, selective, shares, stacked
from saebench.tasks.unlearning.scoring.samples import Samples
from saebench.tasks.unlearning.scoring.selectivity import Selectivity

VOCABULARY = 1000
SIDE = np.array([True, True, False, False])
CLEAN, IGNORANT = 2.0, 5.0  # nats per token; a uniform guess has 6.9


def known(side: np.ndarray = SIDE) -> Known:
    """Documents of two words of the topic and two common tokens."""
    counts = np.array([2.0, 2.0, 4.0])[:, None] * np.ones(len(side))
    return Known.of(CLEAN * counts, IGNORANT * counts, counts, side, VOCABULARY)


def losses(
    topic: list[float], fluency: list[float] | None = None, retain: list[float] | None = None, side: np.ndarray = SIDE
) -> Losses:
    """Losses at settings that raise the loss of each token by so many nats, by the kind of token."""
    nothing = [0.0] * len(topic)
    rows = zip(topic, fluency or nothing, retain or nothing, strict=True)
    groups = np.array([[np.where(side, t, r), np.where(side, f, r)] for t, f, r in rows])
    sums = 2 * (CLEAN + groups)
    return Losses(known(side), sums.sum(1), sums)


def curve(validation: Losses) -> Curve:
    return Curve(UnlearningSweep("clamp", tuple(range(1, len(validation.total) + 1)), ()), validation)


def test_shares_of_what_was_known():
    found = shares(losses([1.5, 3.0], [0.3, 0.0], [0.0, 0.6]))
    np.testing.assert_allclose(found["topic"], [0.5, 1.0])
    np.testing.assert_allclose(found["fluency"], [0.1, 0.0])
    np.testing.assert_allclose(found["retain"], [0.0, 0.2])
    np.testing.assert_allclose(selective(losses([1.5, 3.0], [0.3, 0.0], [0.0, 0.6])), [0.4, 0.8])


def test_no_more_is_lost_than_an_ignorant_model_lacks():
    found = shares(losses([3.0, 20.0], [0.0, 20.0], [0.0, 20.0]))
    np.testing.assert_allclose([found[part] for part in found], [[1, 1], [0, 1], [0, 1]])


def test_the_cap_is_per_document():
    """One broken document does not make up for one that is still known."""
    sums = losses([0.0]).groups.copy()
    sums[0, 0, 0] += 100
    broken = Losses(known(), sums.sum(1), sums)
    np.testing.assert_allclose(shares(broken)["topic"], [0.5])
    assert broken.broken("forget")[0].tolist() == [[1, 0]]
    assert broken.broken("retain")[0].tolist() == [[0, 0]]


def test_an_ignorant_model_is_at_most_as_bad_as_a_uniform_guess_and_at_least_as_bad_as_the_clean_one():
    counts = np.ones((3, 2))
    found = Known.of(2 * counts, np.array([[90.0, 1.0]] * 3), counts, np.array([True, False]), VOCABULARY)
    np.testing.assert_allclose(found.ignorant, [np.log(VOCABULARY), 2.0])
    nothing = shares(Losses(found, np.full((1, 2), 3.0), np.full((1, 2, 2), 3.0)))
    assert np.isnan(nothing["retain"]).all()  # nothing was known, so nothing can be lost


@pytest.mark.parametrize(
    ("topic", "fluency", "retain", "expected"),
    [
        (0.0, 0.0, 0.0, 0.0),  # nothing is changed
        (20.0, 20.0, 0.0, 0.0),  # a gate that knows the topic and breaks the model there
        (20.0, 20.0, 20.0, -1.0),  # a model that is broken everywhere
        (3.0, 0.0, 0.0, 1.0),  # ignorant of the topic alone
        (0.0, 3.0, 0.0, -1.0),  # only fluency is lost
    ],
)
def test_what_selective_forgetting_says(topic: float, fluency: float, retain: float, expected: float):
    np.testing.assert_allclose(selective(losses([topic], [fluency], [retain])), [expected], atol=1e-12)


def test_rises_are_not_capped():
    values, predictions = losses([20.0], [0.0], [1.0]).rise("forget")
    assert (values.sum() / predictions.sum()) == pytest.approx(10.0)
    values, predictions = losses([20.0], [0.0], [1.0]).rise("retain")
    assert (values.sum() / predictions.sum()) == pytest.approx(1.0)


def test_the_setting_is_the_best_on_validation():
    one, two = curve(losses([0.3, 1.5, 20.0], [0.0, 0.0, 20.0])), curve(losses([0.6, 0.9]))
    point = choose([one, two])
    assert (point.curve, point.place) == (one, 1)
    assert point.score == pytest.approx(0.5)
    assert point.note()["strength"] == 2


def test_one_document_more_or_less_moves_a_score_by_its_own_share_alone():
    """A gate that opens on one retained document by mistake costs that document, and does not forbid the setting."""
    side = np.repeat([True, False], 10)
    spared = losses([3.0], side=side)
    total, groups = spared.total.copy(), spared.groups.copy()
    total[0, -1] += 100
    assert selective(spared)[0] - selective(Losses(spared.known, total, groups))[0] == pytest.approx(0.1)
    assert choose([curve(Losses(spared.known, total, groups))]).place == 0


def test_nothing_is_chosen_where_nothing_is_above_zero():
    worse, better = curve(losses([0.0], [3.0])), curve(losses([0.0], [0.3]))
    point = choose([worse, better])
    assert (point.curve, point.place, point.score) == (better, None, 0.0)
    assert choose([curve(losses([20.0], [20.0]))]).place is None


def test_headline_is_the_best_on_validation_and_the_first_of_equal_ones():
    points = {name: choose([curve(losses([rise]))]) for name, rise in (("clamp", 1.0), ("dsg", 2.0), ("other", 2.0))}
    assert headline_method(points) == "dsg"


def test_values_and_differences_on_the_same_samples(tiny: TaskContext):
    rng = np.random.default_rng(0)
    side = np.repeat([True, False], 30)
    base = losses([1.0], [0.2], [0.1], side)
    groups = base.groups + rng.uniform(0, 0.5, base.groups.shape)
    own = Losses(base.known, groups.sum(1), groups)
    found = Selectivity(Samples(tiny, 200))
    value = found.value(own)
    assert value.value == pytest.approx(selective(own)[0])
    assert value.ci_low < value.value < value.ci_high
    assert found.over(own, own).value == 0
    control = losses([0.5], [0.2], [0.1], side)
    over = found.over(own, control)
    assert over.value == pytest.approx(selective(own)[0] - selective(control)[0])
    assert Samples(tiny, 200).weights(30, "forget") is Samples(tiny, 200).weights(30, "forget")  # of every SAE


def test_several_draws_of_a_control_count_as_their_mean_and_widen_the_interval(tiny: TaskContext):
    side = np.repeat([True, False], 30)
    rng = np.random.default_rng(1)
    base = losses([1.5], side=side)
    groups = base.groups + rng.uniform(0, 0.1, base.groups.shape)
    own, found = Losses(base.known, groups.sum(1), groups), Selectivity(Samples(tiny, 400))
    alike, apart = (
        stacked([losses([rise], side=side) for rise in rises]) for rises in ((0.9, 0.9, 0.9), (0.0, 0.6, 2.1))
    )
    one, other = found.over(own, alike), found.over(own, apart)
    assert one.value == pytest.approx(other.value)
    assert other.ci_high - other.ci_low > 2 * (one.ci_high - one.ci_low)


def test_words_of_the_topic():
    forget, retain = np.array([0, 3, 8, 1, 40, 0]), np.array([0, 0, 2, 0, 40, 9])
    words = Vocabulary(forget, retain, ratio=2.0)
    np.testing.assert_array_equal(words.topical, [False, True, True, False, False, False])
    np.testing.assert_array_equal(words.common, [False, False, False, True, True, True])  # token 0 is of neither kind
    np.testing.assert_array_equal(words.groups([0, 1, 4]), [[False, True, False], [False, False, True]])


def test_contributions_to_the_auroc():
    rng = np.random.default_rng(0)
    forget, retain = rng.integers(0, 6, 12) / 5.0, rng.integers(0, 4, 12) / 5.0
    found = auroc_contributions(forget, retain)
    labels = np.repeat([True, False], 12)
    assert found.mean() == pytest.approx(auroc(np.concatenate([forget, retain])[:, None], labels)[0])
    assert auroc_contributions(np.ones(3), np.zeros(3)).tolist() == [1, 1, 1]
    assert auroc_contributions(np.zeros(3), np.zeros(3)).tolist() == [0.5, 0.5, 0.5]
