"""Continuations and their scores, vectors, costs of ablation, and their report, against numbers made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saebench.evaluation import Report
from saebench.interventions.vectors import AddVector, DirectionalAblation
from saebench.lm.generate import generate
from saebench.passes.context import TaskContext
from saebench.scorers import bleu, bleu_statistics, chrf, chrf_from, chrf_statistics
from saebench.stats.intervals import jackknife
from saebench.tasks.language_steering.data import parallel_sentences, token_ids, training_texts
from saebench.tasks.language_steering.methods import (
    difference_in_means,
    latent_vector,
    layer_means,
    of_norm,
    recover,
    steering,
)
from saebench.tasks.language_steering.report import jackknifed, pooled, report_ablation, report_steering
from saebench.tasks.language_steering.scoring.ablation import ablation_costs
from saebench.tasks.language_steering.scoring.continuations import (
    ContinuationScores,
    LanguageChange,
    SteeredContinuations,
    continuations,
)
from saebench.tasks.language_steering.selection import LatentRates
from saebench.tasks.language_steering.settings import LanguageSteeringSettings
from tests.tasks.language_steering.conftest import ALPHABETS, CARD, DIRECTIONS, LANGUAGE, SITE, Planted, parsed

TARGETS = ("fr", "de")


@pytest.fixture
def prompts(stub: None, context: TaskContext, settings: LanguageSteeringSettings) -> SteeredContinuations:
    """The prompts of the test split."""
    return continuations(context, settings, "test")


def towards(*languages: str, strength: float = 5.0) -> LanguageChange:
    return {
        each: AddVector(SITE, DIRECTIONS[LANGUAGE[each]], strength) if each in languages else None for each in TARGETS
    }


def scores(hits: list[float], places: list[int], texts: list[str], references: list[str]) -> ContinuationScores:
    return ContinuationScores(
        places=np.array(places),
        texts=texts,
        hit=np.array(hits),
        chrf=np.array([chrf_from(each) for each in chrf_statistics(texts, references)]),
        bleu=bleu_statistics(texts, references),
        degenerate=np.zeros(len(hits), bool),
    )


def test_scores_are_those_of_each_change_alone(prompts: SteeredContinuations):
    together = prompts.under([towards("fr"), towards("de"), towards("fr", "de"), towards()])
    for number, languages in enumerate((("fr",), ("de",), TARGETS, ())):
        for language in TARGETS:
            found = together[number][language]
            assert found.hit.tolist() == [float(language in languages)] * 4
            if language not in languages:
                assert found.texts == prompts.clean[language].texts
                assert found.degenerate.tolist() == prompts.clean[language].degenerate.tolist()


def test_continuations_are_those_of_generate(
    prompts: SteeredContinuations, context: TaskContext, settings: LanguageSteeringSettings
):
    (found,) = prompts.under([towards("fr")])
    sentences, places = parallel_sentences(context, settings), prompts.places["fr"]
    ids = token_ids(context, [f"{text}\n" for text in sentences.at("test", "en", places)])
    new = generate(context.lm, ids, max_new_tokens=6, intervention=AddVector(SITE, DIRECTIONS[LANGUAGE["fr"]], 5.0))
    assert found["fr"].texts == [context.lm.tokenizer.decode(each) for each in new]
    references = sentences.at("test", "fr", places)
    assert found["fr"].chrf[0] == pytest.approx(chrf(found["fr"].texts[:1], [references[0][:6]]))  # cut to 6 tokens


def test_several_sites_at_once(prompts: SteeredContinuations):
    """Half at each of two sites is all at one, where blocks add nothing."""
    sites = (SITE, "blocks.0.hook_resid_post")
    vectors = {each: DIRECTIONS[LANGUAGE[each]] for each in TARGETS}
    halves = {each: [AddVector(site, vector, 2.5) for site in sites] for each, vector in vectors.items()}
    found, (whole,) = prompts.under_at_many_sites(halves), prompts.under([steering(SITE, vectors, 5.0)])
    assert {each: found[each].texts for each in TARGETS} == {each: whole[each].texts for each in TARGETS}


def test_directions(context: TaskContext, parameters: dict[str, Any]):
    settings = parsed(parameters, recover_sentences=12)
    differences = difference_in_means(context, settings, SITE)
    means = layer_means(context, settings)
    assert tuple(differences) == TARGETS
    for language in TARGETS:
        others = torch.stack([means[other][1] for other in ALPHABETS if other != language]).mean(0)
        torch.testing.assert_close(differences[language], means[language][1] - others, atol=1e-5, rtol=1e-4)
        assert int((DIRECTIONS @ differences[language]).argmax()) == LANGUAGE[language]
    hand = [
        context.lm.prefix(torch.tensor([ids]), [SITE])[SITE][0, 1:].mean(0)
        for ids in token_ids(context, training_texts(context, settings).by_language["fr"])
    ]
    torch.testing.assert_close(means["fr"][1], torch.stack(hand).mean(0), atol=1e-5, rtol=1e-4)
    first = recover(means, "fr", "en", 0.5)[0]
    assert first.restore_norm
    assert first.site == "blocks.0.hook_resid_post"
    assert torch.equal(first.directions[0], means["fr"][0] - means["en"][0])


def test_a_latents_vector_is_its_row_times_its_mean():
    when_firing = np.array([[9.0] * 4, [1.0, 2.0, 3.0, 4.0]])
    rates = LatentRates(("en", "fr"), *(np.zeros((2, 4)),) * 3, when_firing=when_firing, random=np.zeros(4))
    found = latent_vector(Planted(DIRECTIONS[:4]), rates, "fr", np.array([2, 0]))
    torch.testing.assert_close(found, 3 * DIRECTIONS[2] + DIRECTIONS[0])
    assert latent_vector(Planted(), rates, "fr", np.array([], dtype=int)) is None
    assert of_norm(found, 7.0).norm() == pytest.approx(7)
    assert of_norm(None, 7.0) is None


def test_ablation_costs(context: TaskContext, parameters: dict[str, Any]):
    settings = parsed(parameters, ablation_sentences=3, ablation_predictions=100)
    found = parallel_sentences(context, settings)
    intervention = DirectionalAblation(SITE, DIRECTIONS[LANGUAGE["fr"]][None])
    costs = ablation_costs(context, settings, SITE, [None, intervention], "")
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


def test_acc_bleu_is_the_product_averaged_over_languages(context: TaskContext, settings: LanguageSteeringSettings):
    fr = (["le chat dort bien ici", "un chien court vite"], ["le chat dort ici", "un chien court vite dehors"])
    de = (["die katze schläft", "nein"], ["die katze schläft hier", "der hund"])
    found = {"fr": scores([1, 0], [0, 1], *fr), "de": scores([1, 1], [1, 2], *de)}
    report = Report(CARD, context, replicates=100)
    report_steering(report, parallel_sentences(context, settings), {"": found, "diffmean": found}, [])
    value = {(m.metric, m.subset): m for m in report.output().measurements}
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


def test_selectivity_by_hand(context: TaskContext, settings: LanguageSteeringSettings):
    costs = np.zeros((2, 3, 2))  # targets fr, de; languages en, fr, de; rows
    costs[0] = [[0.1, 0.3], [2.0, 1.0], [0.5, 0.1]]
    report = Report(CARD, context, replicates=100)
    report_ablation(report, parallel_sentences(context, settings), {"": costs})
    output = report.output()
    value = {(m.metric, m.subset): m.value for m in output.measurements}
    assert value["ablation_selectivity", "fr"] == pytest.approx(1.5 - (0.2 + 0.3) / 2)
    assert value["ablation_selectivity", "de"] == 0
    assert value["ablation_selectivity", ""] == pytest.approx(1.25 / 2)
    assert value["ablation_margin", ""] == pytest.approx((1.5 - 0.3) / 2)
    assert value["ablation_own", ""] == pytest.approx(0.75)
    assert value["ablation_ratio", ""] == pytest.approx(1.5 / 0.25)
    assert output.arrays["ablation_selectivity/fr.num"] == pytest.approx([2.0 - 0.3, 1.0 - 0.2])
