"""Division, ranking, methods, passes and choices, each compared with something computed in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from saebench.data.labelled import load_labelled
from saebench.evaluation.changes import Setting
from saebench.interventions.clamp import zero
from saebench.interventions.latents import Latents
from saebench.interventions.suppress import Scale
from saebench.interventions.vectors import AddVector
from saebench.passes.activity import Activity
from saebench.passes.context import TaskContext
from saebench.tasks.concept_suppression.data import ConceptExamples, DividedSet, divided_set
from saebench.tasks.concept_suppression.methods import TokenValues
from saebench.tasks.concept_suppression.scoring.outcome import Design, Outcome, cost_at_drop
from saebench.tasks.concept_suppression.scoring.passages import Passages
from saebench.tasks.concept_suppression.scoring.readout import ConceptReadout
from saebench.tasks.concept_suppression.selection import best_setting, ranked_latents
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings, LatentScore
from tests.conftest import WIDTH
from tests.tasks.conftest import topk_sae

SITE = "blocks.1.hook_resid_post"
TEXTS = ["abc", "a somewhat longer text, cut", "x", "abcdefghijklmnopq", "yz é yz", "dddddd"]

Make = Callable[..., TaskContext]
Settings = Callable[..., ConceptSuppressionSettings]


@examples(max_examples=30)
@given(st.integers(2, 5), st.integers(1, 12), st.floats(0.01, 1.0))
def test_complements_are_as_large_for_every_concept(n_classes: int, n: int, share: float):
    part = ConceptExamples.of([f"{i}" for i in range(n_classes * n)], n_classes, share)
    assert not (part.target & part.complement).any()
    taken = max(1, round(share * n))
    for concept in range(n_classes):
        assert (part.labels[part.target[concept]] == concept).all()
        counts = np.bincount(part.labels[part.complement[concept]], minlength=n_classes)
        assert (np.delete(counts, concept) == taken).all()


def test_no_text_is_in_two_parts(context: Make, dataset: Callable[..., str], settings: Settings):
    ref = dataset()
    first, again, other = (
        divided_set("set", load_labelled(ref), tiny, settings(ref)) for tiny in (context(), context(), context(seed=1))
    )

    def texts(divided: DividedSet) -> list[str]:
        return [text for part in (divided.fit, divided.validation, divided.test) for text in part.texts]

    assert texts(first) == texts(again) != texts(other)
    assert len(set(texts(first))) == len(texts(first)) == 3 * (20 + 6 + 9)
    for label, text in zip(first.test.labels, first.test.texts, strict=True):
        assert "xyz"[label] in text


# ------------------------------------------------------------------ ranking


def of_activations(f: np.ndarray) -> Activity:
    """Examples of two tokens each, with the same latents at both."""
    sums = csr_matrix((2 * f).astype(np.float32))
    return Activity(abs(sums) / 2, sums, csr_matrix(2.0 * (f != 0)), np.full(len(f), 2))


LABELS = np.repeat([0, 1], 20)


def test_latents_of_the_concept_and_not_of_the_others_are_ranked():
    rng = np.random.default_rng(0)
    f = np.zeros((40, 5))
    f[:20, 0] = 1 + rng.random(20)  # all of concept 0
    f[20:32, 1] = 1 + rng.random(12)  # some of concept 1
    f[:, 2] = 1 + rng.random(40)  # both alike
    f[:, 3] = -(1 + rng.random(40)) * (1 + 3 * LABELS)  # signed, larger on concept 1
    by_separability = ranked_latents(of_activations(f), LABELS, "separability")
    assert by_separability[0][0] == 0
    assert by_separability[1].tolist()[:2] == [3, 1]
    assert all(4 not in ranked for ranked in by_separability)  # never active
    assert 0 not in by_separability[1]  # it separates concept 1 as well, by being silent on it
    by_saliency = ranked_latents(of_activations(f), LABELS, "saliency")
    mean = np.abs(f[20:]).mean(0)
    assert by_saliency[1].tolist() == np.argsort(-mean)[: (mean > 0).sum()].tolist()


def test_silent_latents_are_no_candidates():
    silent = of_activations(np.zeros((40, 3)))
    for by in get_args(LatentScore):
        assert [len(ranked) for ranked in ranked_latents(silent, LABELS, by)] == [0, 0]


# ------------------------------------------------------------------ methods


def test_values_at_tokens_are_those_of_the_sae(context: Make):
    tiny, sae = context(), topk_sae(SITE)
    part = ConceptExamples.of(TEXTS, 2, 1.0)
    read = TokenValues.read(sae, np.array([7, 3, 7]), part, tiny, 24)
    assert read.latents.tolist() == [3, 7]
    blocks = list(tiny.examples(TEXTS, 24).tokens(SITE))
    z = torch.cat([sae.encode(x) for x, _ in blocks])
    assert torch.allclose(read.values, z[:, [3, 7]], atol=1e-6)
    assert read.labels.tolist() == [int(part.labels[i]) for _, example in blocks for i in example]


def test_the_range_is_that_of_the_tokens_at_which_a_latent_fires(settings: Settings):
    f = torch.tensor([[0.0, 2.0], [1.0, 4.0], [3.0, 6.0], [9.0, 9.0]])
    values = TokenValues(topk_sae(SITE), np.array([2, 5]), f, torch.tensor([1, 1, 1, 0]), 2**20)
    mask = values.suppress(np.array([5, 2]), 1, ["range"], settings("csv:any"))["range"]
    described = mask.describe()
    assert described["latents"] == [5, 2]
    assert described["mean"] == pytest.approx([4.0, 2.0])
    assert described["sd"] == pytest.approx([np.sqrt(8 / 3), 1.0])


# ------------------------------------------------------------------ passes


@pytest.fixture
def passages(context: Make) -> Passages:
    return Passages(TEXTS, context(batch_size=2), 24, site=SITE, reads=SITE)


def identity(hidden: torch.Tensor) -> np.ndarray:
    return hidden.double().numpy()


def expected_means(tiny: TaskContext, vector: torch.Tensor) -> np.ndarray:
    """The mean hidden states with ``vector`` added, computed text by text and without padding."""
    lm, rows = tiny.lm, []
    special = set(lm.tokenizer.all_special_ids)
    for text in TEXTS:
        ids = [lm.tokenizer.bos_token_id, *lm.tokenizer(text, add_special_tokens=False)["input_ids"][-23:]]
        tokens, kept = torch.tensor([ids]), torch.tensor([[token not in special for token in ids]])
        x = lm.prefix(tokens, [SITE])[SITE] + kept[..., None] * vector
        rows.append(lm.suffix(tokens, SITE, x)[kept].mean(0).double().numpy())
    return np.stack(rows)


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
def test_padding_and_batches_change_nothing(context: Make, family: str):
    tiny = context(family, batch_size=2)
    passages = Passages(TEXTS, tiny, 24, site=SITE, reads=SITE)
    vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(passages.clean.numpy(), expected_means(tiny, 0 * vector), atol=1e-4)
    every, some = np.ones(6, bool), np.arange(6) % 2 == 0
    under = passages.under([(AddVector(SITE, vector, 1.0), every), (AddVector(SITE, vector, 1.0), some)], identity, "")
    expected = expected_means(tiny, vector)
    np.testing.assert_allclose(under[0], expected, atol=1e-4)
    np.testing.assert_allclose(under[1, some], expected[some], atol=1e-4)
    assert np.isnan(under[1, ~some]).all()


def test_what_changes_nothing_is_exactly_clean(passages: Passages):
    sae, every = topk_sae(SITE), np.ones(6, bool)
    used = Latents(sae, list(range(20)), error="kept")
    changes = [(zero(Latents(sae, [], error="kept")), every), (Scale(used, 1.0), every), (zero(used), every)]
    nothing, identical, masked = passages.under(changes, identity, "")
    clean = identity(passages.clean)
    assert np.array_equal(nothing, clean)
    assert np.array_equal(identical, clean)
    assert not np.array_equal(masked, clean)


def test_edits_that_share_latents_are_the_same_as_alone(passages: Passages):
    sae, every = topk_sae(SITE), np.ones(6, bool)
    shared = Latents(sae, list(range(20)), error="kept")
    together = passages.under([(zero(shared), every), (Scale(shared, 0.5), every)], identity, "")
    for edit, shared_edit in zip((zero, lambda x: Scale(x, 0.5)), together, strict=True):
        alone = passages.under([(edit(Latents(sae, list(range(20)), error="kept")), every)], identity, "")[0]
        np.testing.assert_allclose(shared_edit, alone, atol=1e-5)


def test_the_readout_tells_clusters_apart_and_ignores_constants():
    labels = np.repeat([0, 1, 2], 30)
    hidden = torch.randn(90, 8, generator=torch.Generator().manual_seed(0))
    hidden[:, :3] += 6 * torch.nn.functional.one_hot(torch.from_numpy(labels), 3)
    hidden[:, 7] = 5.0
    readout = ConceptReadout(hidden, labels)
    p = readout(hidden)
    assert p.shape == (90, 3)
    assert (p.argmax(1) == labels).all()
    moved = hidden.clone()
    moved[:, 7] = -1000.0
    assert np.array_equal(readout(moved), p)


# ------------------------------------------------------------------ choices


def outcome(drops: list[float], complements: list[float], log_ratios: list[float], confidence: float = 0.0) -> Outcome:
    """One concept with one example and one complement example."""
    drop, complement = np.array([0.0, *drops]), np.array([0.0, *complements])
    accuracy = np.stack([drop, complement], -1)[:, None]
    nats = np.array([0.0, *log_ratios])[:, None, None]
    sure = np.where(np.arange(len(drop)) > 0, confidence, 0.0)[:, None, None] * np.ones((1, 1, 2))
    return Outcome(tuple(map(float, range(len(drop)))), accuracy, sure, nats)


DESIGN = Design(np.array([[True, False]]), np.array([[False, True]]), np.array([1.0]))


def test_the_largest_drop_within_the_limits_is_chosen(settings: Settings):
    limits = settings("csv:any", max_complement_drop=0.05, max_perplexity_ratio=float(np.exp(0.1)))
    mild, strong = outcome([0.2, 0.4, 0.9], [0.0, 0.05, 0.0], [0.0, 0.1, 0.2]), outcome([0.95], [0.2], [0.0])
    assert best_setting({"a": mild, "b": strong}, DESIGN, limits) == Setting("a", 2.0)
    assert best_setting({"b": strong}, DESIGN, limits) == Setting("b", None)
    surer = outcome([0.4], [0.0], [0.1], confidence=0.1)
    assert best_setting({"a": mild, "c": surer}, DESIGN, limits) == Setting("c", 1.0)
    harmful = outcome([-0.1, 0.0], [-0.5, 0.0], [-0.1, -0.1], confidence=-0.1)
    assert best_setting({"d": harmful}, DESIGN, limits) == Setting("d", None)


def test_confidence_decides_before_accuracy(settings: Settings):
    limits = settings("csv:any", max_complement_drop=1.0, max_perplexity_ratio=1000.0)
    more_answers, more_confidence = outcome([0.5], [0.0], [0.0], confidence=0.1), outcome([0.4], [0.0], [0.0], 0.3)
    assert best_setting({"a": more_answers, "b": more_confidence}, DESIGN, limits) == Setting("b", 1.0)


def test_a_change_that_hits_every_concept_alike_is_not_selective():
    """A broken model loses its confidence in every example, whether its concept is suppressed or not."""
    target = np.arange(6).reshape(1, -1) // 2 == np.arange(3)[:, None]
    design = Design(target, ~target, np.array([1.0]))
    num, den = design.selective(np.full((3, 6), 0.6))
    assert num.sum() / den.sum() == pytest.approx(0)
    num, den = design.selective(np.where(target, 0.6, 0.1))
    assert num.sum() / den.sum() == pytest.approx(0.5)


def test_the_draws_of_a_control_are_averaged():
    two = outcome([0.2, 0.6], [0.0, 0.1], [0.0, 0.2], confidence=0.1)
    mean = two.averaged()
    assert len(mean.strengths) == len(mean.accuracy) == 1
    np.testing.assert_allclose(mean.accuracy[0], two.accuracy[1:].mean(0))
    np.testing.assert_allclose(mean.nats[0], two.nats[1:].mean(0))
    nothing = outcome([], [], []).averaged()
    assert nothing.strengths == (0.0,)
    assert not np.nan_to_num(nothing.accuracy).any()


def test_cost_at_equal_drop_is_linear_between_strengths():
    drop, cost = (
        np.array([[0, 0.2, 0.6], [0, 0.1, 0.2], [0, 0.5, 0.1]]),
        np.array([[0, 0.1, 0.5], [0, 1, 2], [0, 4, 1]]),
    )
    np.testing.assert_allclose(cost_at_drop(drop, cost, 0.25), [0.15, np.nan, 2.0])
    np.testing.assert_allclose(cost_at_drop(drop[0], cost[0], 0.1), 0.05)
