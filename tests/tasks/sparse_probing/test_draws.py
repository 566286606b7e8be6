"""Draws have the sizes and shares asked for, are disjoint and the same for every SAE, and never touch test labels."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saebench.stats.rng import generator
from saebench.tasks.sparse_probing.data.draws import imbalance, noise, scarcity
from saebench.tasks.sparse_probing.data.examples import ProbeData

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def rng(*drawn):
    return generator(0, *drawn)


def labels(positive, negative):
    return torch.from_numpy(np.random.default_rng(0).permutation([True] * positive + [False] * negative))


def examples(train=(64, 64), test=(120, 120), content="set"):
    """Each example is its own number, so that rows can be told apart; test examples are negative."""
    n, m = sum(train), sum(test)
    return ProbeData(
        content, torch.arange(n)[:, None].float(), labels(*train), -1 - torch.arange(m)[:, None].float(), labels(*test)
    )


def test_scarcity_draws_balanced_sets_of_each_size_that_differ():
    data = examples()
    drawn = [(draw, draw.from_data(data)) for draw in scarcity(data, [2, 8, 9, 128], 5, rng)]
    assert Counter(draw.level for draw, _ in drawn) == {"n=2": 5, "n=8": 5, "n=9": 5, "n=128": 5}
    for draw, problem in drawn:
        size = int(draw.level.removeprefix("n="))
        assert len(problem.x_train) == size
        assert int(problem.y_train.sum()) == size - size // 2
        assert problem.x_test is data.x_test
    eights = {tuple(sorted(p.x_train[:, 0].tolist())) for d, p in drawn if d.level == "n=8"}
    assert len(eights) == 5


def test_sizes_out_of_reach_are_left_out():
    assert {d.level for d in scarcity(examples(train=(5, 64)), [1, 2, 8, 16, 1024], 1, rng)} == {"n=2", "n=8"}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(5, 80), st.integers(5, 80))
def test_imbalance_has_the_share_in_training_and_test_at_one_size(a, b, c, d):
    data = examples(train=(a, b), test=(c, d))
    seen = set()
    for draw in imbalance(data, SHARES, 1, rng):
        problem, share = draw.from_data(data), float(draw.level.removeprefix("positive="))
        for y in (problem.y_train, problem.y_test):
            assert int(y.sum()) == round(share * len(y))
        assert len(set(problem.x_train[:, 0].tolist())) == len(problem.x_train), "no example twice"
        assert len(set(problem.x_test[:, 0].tolist())) == len(problem.x_test)
        assert min(int(problem.y_test.sum()), int((~problem.y_test).sum())) >= 5
        seen.add((len(problem.y_train), len(problem.y_test)))
    assert len(seen) <= 1


def test_imbalance_uses_as_many_examples_as_the_most_imbalanced_share_allows():
    data = examples(train=(512, 512), test=(200, 200))
    problems = [draw.from_data(data) for draw in imbalance(data, SHARES, 1, rng)]
    assert len(problems) == len(SHARES)
    assert {(len(p.y_train), len(p.y_test)) for p in problems} == {(539, 211)}


def test_imbalanced_test_sets_of_few_examples_are_left_out():
    found = {draw.level for draw in imbalance(examples(test=(20, 20)), SHARES, 1, rng)}
    assert found == {"positive=0.25", "positive=0.5", "positive=0.75"}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_noise_flips_that_share_of_the_training_labels_and_no_test_label(share):
    data = examples()
    before = data.y_train.clone(), data.y_test.clone()
    (draw,) = noise(data, [share], 1, rng)
    problem = draw.from_data(data)
    assert int((problem.y_train != data.y_train).sum()) == int(share * 128)
    assert problem.x_train is data.x_train
    assert problem.y_test is data.y_test
    assert torch.equal(data.y_train, before[0]), "the dataset itself is not written to"
    assert torch.equal(data.y_test, before[1])


def test_flips_that_leave_one_class_are_left_out():
    data = examples(train=(1, 3))
    drawn = list(noise(data, [0.25], 40, rng))
    assert 0 < len(drawn) < 40
    assert all(0 < int(draw.from_data(data).y_train.sum()) < 4 for draw in drawn)


@pytest.mark.parametrize(
    "draws",
    [
        lambda data: scarcity(data, [8, 32], 3, rng),
        lambda data: imbalance(data, SHARES, 2, rng),
        lambda data: noise(data, [0.2], 2, rng),
    ],
)
def test_draws_follow_from_labels_seed_and_content_alone(draws):
    data = examples()
    codes = data.encoded(lambda x: torch.cat([x, x**2], dim=1))
    for first, second in zip(draws(data), draws(codes), strict=True):
        one, two = first.from_data(data), second.from_data(codes)
        assert one.content == two.content
        torch.testing.assert_close(one.x_train, two.x_train[:, :1])
        torch.testing.assert_close(one.x_test, two.x_test[:, :1])
        assert torch.equal(one.y_train, two.y_train)
    contents = [draw.content for draw in draws(data)]
    assert len(set(contents)) == len(contents), "the folds follow from the content"
    assert [draw.content for draw in draws(examples(content="other"))] != contents


def test_training_and_test_examples_never_mix():
    data = examples()
    for draw in [*scarcity(data, [16], 2, rng), *imbalance(data, SHARES, 1, rng), *noise(data, [0.3], 1, rng)]:
        problem = draw.from_data(data)
        assert (problem.x_train >= 0).all()
        assert (problem.x_test < 0).all()
        of_train = dict(zip(data.x_train[:, 0].tolist(), data.y_train.tolist(), strict=True))
        same = np.mean(
            [of_train[x] == y for x, y in zip(problem.x_train[:, 0].tolist(), problem.y_train.tolist(), strict=True)]
        )
        assert same == 1 or draw.y_train is not None
