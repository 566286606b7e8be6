"""Scores of planted latents, of noise, of dead latents and in blocks, compared with a loop in numpy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, hypergeom
from torch import Tensor

from saebench.stats.histogram import Activations
from saebench.tasks.concept_separability.data import GROUPS, ConceptSet
from saebench.tasks.concept_separability.scoring.averages import KEYS, SetScores, set_scores
from saebench.tasks.concept_separability.scoring.estimators import HistogramEstimator, KDEEstimator


def make_set(n_classes: int = 3, each: int = 20, permutations: int = 99) -> ConceptSet:
    """A set with ``each`` examples of each concept in each half."""
    draw = np.random.default_rng(0)
    labels = np.tile(np.repeat(np.arange(n_classes), each), 2)
    groups = np.arange(each) % GROUPS
    orders = [np.concatenate([draw.permutation(half) for half in labels.reshape(2, -1)]) for _ in range(permutations)]
    return ConceptSet(
        "set",
        [],
        torch.from_numpy(labels),
        torch.from_numpy(np.concatenate([np.tile(groups, n_classes), GROUPS + np.tile(groups, n_classes)])),
        torch.from_numpy(np.stack(orders)),
        tuple("abcdefg"[:n_classes]),
    )


def score(z: Tensor, concept_set: ConceptSet, *, block: int = 10**6, kde: bool = False, bins: int = 4) -> SetScores:
    kind = KDEEstimator if kde else HistogramEstimator
    return set_scores(Activations.of(z), concept_set, lambda part: kind(part, concept_set, bins), block)


def noise(concept_set: ConceptSet, n: int, rate: float = 0.3, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    shape = (len(concept_set.labels), n)
    return torch.rand(shape, generator=draw) * (torch.rand(shape, generator=draw) < rate)


@pytest.mark.parametrize("kde", [False, True])
def test_planted_latents_are_chosen_on_one_half_and_score_on_the_other(kde: bool):
    concept_set = make_set(permutations=20 if kde else 199)
    z = noise(concept_set, 40)
    for c in range(3):
        z[:, 10 + c] = (concept_set.labels == c) * 2.0
    scores = score(z, concept_set, kde=kde)
    assert scores.value["top1"] == pytest.approx(1, abs=0.01)
    # One of ten; and those of the other concepts fire on half of the rest: H(1/4) - H(1/2) / 2 bits each.
    expected = (1 + 2 * (float(entropy([0.25, 0.75], base=2)) - 0.5)) / 10
    assert scores.value["top10"] == pytest.approx(expected, abs=0.03)
    assert scores.value["top10/b"] == pytest.approx(expected, abs=0.05)
    assert scores.p_values[10:13] == pytest.approx([1 / (1 + len(concept_set.permutations))] * 3)
    assert kde or scores.n_significant >= 3  # 20 permutations are too few to tell 3 among 40


def test_scores_without_signal_are_zero_within_their_noise():
    concept_set = make_set(4, 30)
    scores = score(torch.cat([noise(concept_set, 300, rate) for rate in (0.02, 0.3, 1.0)], 1), concept_set, bins=16)
    for key in KEYS:
        out = scores.left_out[key]
        se = math.sqrt((len(out) - 1) / len(out) * np.sum((out - out.mean()) ** 2))
        assert abs(scores.value[key]) < 3 * se, key
    assert scores.n_significant <= 3
    assert 0 < scores.n_rare < 301


def loop(z: np.ndarray, label: np.ndarray, n_classes: int, n_bins: np.ndarray) -> dict[str, np.ndarray]:
    """Adjusted divergences by definition, with scipy's hypergeometric distribution; ``z`` has few different values."""
    total, per_class = len(label), len(label) // n_classes
    out: dict[str, list[object]] = {"joint": [], "rest": [], "pair": []}
    h = lambda p: entropy(p, base=2)  # noqa: E731
    for column in z.T:
        values = np.unique(column)
        count = np.array([[np.sum((column == v) & (label == c)) for v in values] for c in range(n_classes)])
        sizes = count.sum(0)
        p = count / per_class

        def chance(marked: int, of, sizes=sizes) -> float:  # type: ignore[no-untyped-def]
            """The mean entropy over relabellings of the distribution with the probabilities ``of(n, k)``."""
            k = np.arange(marked + 1)
            mean = 0.0
            for n in sizes:
                q = of(n, k)
                plogp = np.where(q > 0, -q * np.log2(np.where(q > 0, q, 1)), 0)
                mean += float(hypergeom.pmf(k, total, marked, n) @ plogp)
            return mean

        joint = h(p.mean(0)) - np.mean([h(q) for q in p])
        in_one = chance(per_class, lambda n, k: k / per_class)
        in_rest = chance(per_class, lambda n, k: np.maximum(n - k, 0) / (total - per_class))
        mixed = chance(per_class, lambda n, k: (k / per_class + np.maximum(n - k, 0) / (total - per_class)) / 2)
        in_two = chance(2 * per_class, lambda n, k: k / (2 * per_class))
        adjust = lambda x, e, m: (x - e) / (m - e)  # noqa: E731
        out["joint"].append(adjust(joint, h(p.mean(0)) - in_one, math.log2(n_classes)))
        others = [(p.sum(0) - q) / (n_classes - 1) for q in p]
        rest = [h((q + o) / 2) - (h(q) + h(o)) / 2 for q, o in zip(p, others, strict=True)]
        out["rest"].append([adjust(x, mixed - (in_one + in_rest) / 2, 1) for x in rest])
        pairs = [h((a + b) / 2) - (h(a) + h(b)) / 2 for a, b in itertools.combinations(p, 2)]
        out["pair"].append(adjust(np.mean(pairs), in_two - in_one, 1))
    return {name: np.array(values) for name, values in out.items()}


def test_every_average_against_a_loop():
    concept_set = make_set(3, 20)
    draw = np.random.default_rng(1)
    label = concept_set.labels.numpy()
    fires = draw.random((len(label), 14)) < np.where(label[:, None] == np.arange(14) % 3, 0.7, 0.2)
    z = fires * draw.random(14)  # two values each
    z[:, 13] = 0
    scores = score(torch.from_numpy(z).float(), concept_set, bins=1)
    alive = z[:, :13]
    half = np.arange(len(label)) < len(label) // 2

    def scored(inside: np.ndarray) -> dict[str, np.ndarray]:
        return loop(alive[inside], label[inside], 3, np.ones(13))

    def expected(keep: np.ndarray) -> dict[str, float]:
        whole, first, second = (scored(keep & part) for part in (half | True, half, ~half))
        mass = alive.sum(0) / alive.sum()
        out = {"mean": whole["joint"].mean(), "mass_weighted": whole["joint"] @ mass, "pairwise": whole["pair"].mean()}
        out |= {f"one_vs_rest/{name}": x for name, x in zip("abc", whole["rest"].mean(0), strict=True)}
        chosen = {id(first): choice["second"], id(second): choice["first"]}
        for key in ("one_vs_rest", "top1", "top10"):
            out[key] = 0.0
        for part in (first, second):
            order = chosen[id(part)]
            best = order.argmax(1)
            out["one_vs_rest"] += part["rest"][np.arange(13), best].mean() / 2
            for c, name in enumerate("abc"):
                by_score = np.sort(order[:, c].round(9))[::-1]
                mean = {}
                for k in (1, 10):  # latents that tie for the last places share them
                    above, tied = (compare(order[:, c].round(9), by_score[k - 1]) for compare in (np.greater, np.equal))
                    weight = above + tied * (k - above.sum()) / tied.sum()
                    mean[k] = weight @ part["rest"][:, c] / k
                out["top1"] += mean[1] / 6
                out["top10"] += mean[10] / 6
                out[f"top10/{name}"] = out.get(f"top10/{name}", 0) + mean[10] / 2
        return out

    choice = {"first": scored(half)["rest"], "second": scored(~half)["rest"]}  # chosen once, with every group
    for key, value in expected(half | True).items():
        assert scores.value[key] == pytest.approx(value, abs=1e-9), key
    for group in (7, GROUPS):
        for key, value in expected(concept_set.groups.numpy() != group).items():
            assert scores.left_out[key][group] == pytest.approx(value, abs=1e-9), (group, key)
    assert (scores.n_alive, scores.n_rare) == (13, 0)
    assert np.isnan(scores.joint[13])
    assert scores.joint[:13] == pytest.approx(scored(half | True)["joint"], abs=1e-6)


@pytest.mark.parametrize("kde", [False, True])
def test_blocks_of_latents_change_nothing(kde: bool):
    concept_set = make_set(permutations=20)
    z = noise(concept_set, 8, 0.2)
    z[:, 5] += concept_set.labels
    z[:, 2] = 0
    whole, blocks = score(z, concept_set, kde=kde), score(z, concept_set, block=3, kde=kde)
    for key, value in whole.value.items():
        assert blocks.value[key] == pytest.approx(value, abs=1e-12)
        assert blocks.left_out[key] == pytest.approx(whole.left_out[key], abs=1e-12)
    assert np.array_equal(whole.p_values, blocks.p_values, equal_nan=True)
    assert whole.n_alive == blocks.n_alive == 7


def test_scale_and_permutation_of_latents_do_not_matter():
    concept_set = make_set()
    z = noise(concept_set, 12)
    z[:, 3] += concept_set.labels == 1
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    one, other = score(z, concept_set), score((z * torch.logspace(-4, 4, 12))[:, order], concept_set)
    for key in set(KEYS) - {"mass_weighted"}:
        assert other.value[key] == pytest.approx(one.value[key], abs=1e-12), key
    assert (other.p_values == one.p_values[order.numpy()]).all()


def test_nothing_alive_is_not_scored():
    concept_set = make_set()
    scores = score(torch.zeros(len(concept_set.labels), 4), concept_set)
    assert np.isnan(list(scores.value.values())).all()
    assert scores.n_alive == scores.n_significant == 0
