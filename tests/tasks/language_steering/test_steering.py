"""Continuations and their scores, directions, and the figures made of them, against numbers made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saebench.interventions.vectors import AddVector, DirectionalAblation
from saebench.lm.generate import generate
from saebench.passes.context import TaskContext
from saebench.scorers import bleu, chrf
from saebench.stats.intervals import jackknife
from saebench.tasks.language_steering.ablation import Ablation
from saebench.tasks.language_steering.directions import (
    difference_in_means,
    latent_vector,
    layer_means,
    of_norm,
    recover,
)
from saebench.tasks.language_steering.figures import Figures, jackknifed, pooled
from saebench.tasks.language_steering.identify import Rates
from saebench.tasks.language_steering.sentences import sentences, token_ids
from saebench.tasks.language_steering.setup import Setup, setup
from saebench.tasks.language_steering.steering import Scores, Setting
from saebench.tasks.language_steering.sweep import setting
from tests.tasks.language_steering.conftest import ALPHABETS, DIRECTIONS, LANGUAGE, SITE, Planted

TARGETS = ("fr", "de")


@pytest.fixture
def given(stub: None, context: TaskContext, parameters: dict[str, Any]) -> Setup:
    return setup(context, parameters)


def towards(*languages: str, strength: float = 5.0) -> Setting:
    return {
        each: AddVector(SITE, DIRECTIONS[LANGUAGE[each]], strength) if each in languages else None for each in TARGETS
    }


def scores(hits: list[float], places: list[int], texts: list[str], references: list[str]) -> Scores:
    from saebench.scorers import bleu_statistics, chrf_from, chrf_statistics

    return Scores(
        places=np.array(places),
        texts=texts,
        hit=np.array(hits),
        chrf=np.array([chrf_from(each) for each in chrf_statistics(texts, references)]),
        bleu=bleu_statistics(texts, references),
        degenerate=np.zeros(len(hits), bool),
    )


def test_scores_are_those_of_each_setting_alone(given: Setup):
    together = given.test.under([towards("fr"), towards("de"), towards("fr", "de"), towards()])
    for number, languages in enumerate((("fr",), ("de",), TARGETS, ())):
        for language in TARGETS:
            found = together[number][language]
            assert found.hit.tolist() == [float(language in languages)] * 4
            if language not in languages:
                assert found.texts == given.test.clean[language].texts
                assert found.degenerate.tolist() == given.test.clean[language].degenerate.tolist()


def test_continuations_are_those_of_generate(given: Setup, context: TaskContext, parameters: dict[str, Any]):
    (found,) = given.test.under([towards("fr")])
    text = given.sentences.at("test", "en", given.test.places["fr"])
    prompts = token_ids(context, [f"{each}\n" for each in text])
    new = generate(context.lm, prompts, max_new_tokens=6, intervention=AddVector(SITE, DIRECTIONS[LANGUAGE["fr"]], 5.0))
    assert found["fr"].texts == [context.lm.tokenizer.decode(each) for each in new]
    references = given.sentences.at("test", "fr", given.test.places["fr"])
    assert found["fr"].chrf[0] == pytest.approx(chrf(found["fr"].texts[:1], [references[0][:6]]))  # cut to 6 tokens


def test_several_sites_at_once(given: Setup):
    """Half at each of two sites is all at one, where blocks add nothing."""
    sites = (SITE, "blocks.0.hook_resid_post")
    vectors = {each: DIRECTIONS[LANGUAGE[each]] for each in TARGETS}
    halves = {each: [AddVector(site, vector, 2.5) for site in sites] for each, vector in vectors.items()}
    found, (whole,) = given.test.at_all_sites(halves), given.test.under([setting(SITE, vectors, 5.0)])
    assert {each: found[each].texts for each in TARGETS} == {each: whole[each].texts for each in TARGETS}


def test_directions(context: TaskContext, given: Setup):
    differences = difference_in_means(context, given.train, 24, SITE)
    means = layer_means(context, given.train, 24)
    for language in ALPHABETS:
        others = torch.stack([means[other][1] for other in ALPHABETS if other != language]).mean(0)
        torch.testing.assert_close(differences[language], means[language][1] - others, atol=1e-5, rtol=1e-4)
        assert int((DIRECTIONS @ differences[language]).argmax()) == LANGUAGE[language]
    hand = [
        context.lm.prefix(torch.tensor([ids]), [SITE])[SITE][0, 1:].mean(0)
        for ids in token_ids(context, given.train["fr"])
    ]
    torch.testing.assert_close(means["fr"][1], torch.stack(hand).mean(0), atol=1e-5, rtol=1e-4)
    first = recover(means, "fr", "en", 0.5)[0]
    assert first.restore_norm
    assert first.site == "blocks.0.hook_resid_post"
    assert torch.equal(first.directions[0], means["fr"][0] - means["en"][0])


def test_a_latents_vector_is_its_row_times_its_mean():
    rates = Rates(*(np.zeros((2, 4)),) * 3, when_firing=np.array([[9.0] * 4, [1.0, 2.0, 3.0, 4.0]]), random=np.zeros(4))
    found = latent_vector(Planted(DIRECTIONS[:4]), rates, 1, np.array([2, 0]))
    torch.testing.assert_close(found, 3 * DIRECTIONS[2] + DIRECTIONS[0])
    assert latent_vector(Planted(), rates, 1, np.array([], dtype=int)) is None
    assert of_norm(found, 7.0).norm() == pytest.approx(7)
    assert of_norm(None, 7.0) is None


def test_ablation_costs(context: TaskContext, parameters: dict[str, Any]):
    found = sentences(context, parameters)
    ablation = Ablation(context, found, 3, 100, 24, SITE)
    intervention = DirectionalAblation(SITE, DIRECTIONS[LANGUAGE["fr"]][None])
    costs = ablation.costs([None, intervention], "")
    assert costs.shape == (2, 3, 3)
    assert not costs[0].any()
    for row, language in enumerate(found.languages):
        for column, ids in enumerate(token_ids(context, found.first("test", 3)[language])):
            tokens = torch.tensor([ids])
            x = context.lm.prefix(tokens, [SITE])[SITE]
            mask = torch.ones_like(tokens, dtype=torch.bool)
            mask[0, 0] = False
            ce = []
            for activation in (x, intervention(x, mask)):
                log_p = context.lm.head.logits(context.lm.suffix(tokens, SITE, activation)[0]).log_softmax(-1)
                ce.append(-log_p[:-1].gather(1, tokens[0, 1:, None])[1:].mean().item())  # the first is not scored
            assert costs[1, row, column] == pytest.approx(ce[1] - ce[0], abs=1e-4)


def test_pooled_over_languages_and_rows():
    found = {
        "fr": scores([1, 0, 1], [4, 0, 2], ["a"] * 3, ["a"] * 3),
        "de": scores([1, 1], [2, 9], ["a"] * 2, ["a"] * 2),
    }
    num, den = pooled({each: found[each].hit for each in found}, found)
    assert num.tolist() == [0, 2, 1, 1]  # rows 0, 2, 4, 9
    assert den.tolist() == [1, 2, 1, 1]
    num, _ = pooled({"de": found["de"].hit}, found)
    assert num.tolist() == [1, 1]


def test_acc_bleu_is_the_product_averaged_over_languages(context: TaskContext, parameters: dict[str, Any]):
    fr = (["le chat dort bien ici", "un chien court vite"], ["le chat dort ici", "un chien court vite dehors"])
    de = (["die katze schläft", "nein"], ["die katze schläft hier", "der hund"])
    found = {"fr": scores([1, 0], [0, 1], *fr), "de": scores([1, 1], [1, 2], *de)}
    figures = Figures(context, sentences(context, parameters), 100)
    figures.steering("", found)
    value = {(m.metric, m.subset): m for m in figures.out.measurements}
    assert value["acc_bleu", "fr"].value == pytest.approx(0.5 * bleu(*fr))
    assert value["acc_bleu", ""].value == pytest.approx((0.5 * bleu(*fr) + bleu(*de)) / 2)
    assert value["bleu", ""].value == pytest.approx((bleu(*fr) + bleu(*de)) / 2)
    assert value["acc_bleu", ""].n == 3
    assert value["acc_chrf", "fr"].value == pytest.approx(found["fr"].chrf[0] / 2)


def test_leaving_out_a_row_leaves_it_out_in_every_language():
    hits = {"fr": ([1, 0], [0, 1]), "de": ([1, 1], [1, 2])}
    found = {each: scores(hit, places, ["a"] * 2, ["a"] * 2) for each, (hit, places) in hits.items()}
    estimate = jackknifed(found, lambda each, kept: float(each.hit[kept].mean()))
    assert estimate == jackknife(0.75, np.array([0.5, 1.0, 0.75]))


def test_selectivity_by_hand(context: TaskContext, parameters: dict[str, Any]):
    costs = np.zeros((2, 3, 2))  # targets fr, de; languages en, fr, de; rows
    costs[0] = [[0.1, 0.3], [2.0, 1.0], [0.5, 0.1]]
    figures = Figures(context, sentences(context, parameters), 100)
    figures.ablation("", costs)
    value = {(m.metric, m.subset): m.value for m in figures.out.measurements}
    assert value["ablation_selectivity", "fr"] == pytest.approx(1.5 - (0.2 + 0.3) / 2)
    assert value["ablation_selectivity", "de"] == 0
    assert value["ablation_selectivity", ""] == pytest.approx(1.25 / 2)
    assert value["ablation_margin", ""] == pytest.approx((1.5 - 0.3) / 2)
    assert value["ablation_own", ""] == pytest.approx(0.75)
    assert value["ablation_ratio", ""] == pytest.approx(1.5 / 0.25)
    assert figures.out.arrays["ablation_selectivity/fr.num"] == pytest.approx([2.0 - 0.3, 1.0 - 0.2])
