"""The task on a tiny language model with planted latents: found, their removal measured, and controls that stay low."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from saebench.cards.card import PRESETS
from saebench.evaluation.task import TaskOutput
from saebench.lm.model import LanguageModel
from saebench.passes.context import TaskContext
from saebench.sae.protocol import Capability
from saebench.tasks.unlearning.data.documents import document_items, documents
from saebench.tasks.unlearning.methods.clamps import clamp_sweeps
from saebench.tasks.unlearning.methods.guardrail import firing_shares
from saebench.tasks.unlearning.scoring.methods import results_without_sae
from saebench.tasks.unlearning.scoring.scorer import MethodScorer
from saebench.tasks.unlearning.selection import LatentStatistics, guiding_latents, latent_statistics
from saebench.tasks.unlearning.settings import Method, UnlearningSettings
from tests.tasks.conftest import Plain, assert_units
from tests.tasks.unlearning.planted import CARD, PLANTED, SITE, measure, planted_sae, reader, small_settings, values

METHODS: tuple[Method, ...] = get_args(Method)

QUICKLY = {"methods": ["clamp", "conditional"], "saebench_score": False, "generation_documents": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unlearning")


@pytest.fixture(scope="module")
def shared(loaded: Callable[[str], LanguageModel], texts: dict[str, list[str]]) -> TaskContext:
    # With this seed, no other latent looks like a planted one on the few documents to fit on, and test documents hold
    # common letters that the model knows.
    return TaskContext(loaded("gemma3"), read=reader(texts), batch_size=16, seed=3)


@pytest.fixture(scope="module")
def output(shared: TaskContext, folder: Path) -> TaskOutput:
    return measure(planted_sae(shared), shared, small_settings(folder))


def test_every_metric_of_the_card_for_every_method(output: TaskOutput):
    assert {m.metric for m in output.measurements} == {m.id for m in CARD.metrics}
    keys = [(m.metric, m.subset) for m in output.measurements]
    assert len(keys) == len(set(keys))
    for control in ("random_latents", "random_directions"):
        assert ("selective_forgetting", control) in keys
    for method in (*METHODS, ""):
        assert ("selective_forgetting", method) in keys
        assert ("forget_delta_ce", method) in keys
        assert ("question_margin_retain_change", method) in keys
        assert ("repetition_forget", method) in keys
    for m in output.measurements:
        if m.value is None:
            assert m.not_scored
        elif m.ci_low is not None and m.ci_high is not None and m.interval != "expanded-percentile":
            assert m.ci_low <= m.value <= m.ci_high, m
        if m.contributions:
            num, den = (output.arrays[f"{m.contributions}.{part}"] for part in ("num", "den"))
            assert len(num) == len(den) == m.n
            assert num.sum() / den.sum() == pytest.approx(m.value, abs=1e-12)


def test_the_planted_latents_are_found_and_their_removal_is_selective(output: TaskOutput):
    assert set(output.notes["settings"]["clamp"]["latents"]) == set(PLANTED)
    assert output.notes["headline"] in ("clamp", "conditional", "dsg")
    assert output.counts["selected_latents"] == 2
    found = {(m.metric, m.subset): m for m in output.measurements}
    forget, retain = found["forget_delta_ce", "clamp"], found["retain_delta_ce", "clamp"]
    assert forget.ci_low is not None
    assert forget.ci_low > 0.1
    assert retain.value == 0  # they never fire there
    assert found["retain_lost", "clamp"].value == 0
    assert found["retain_broken", "clamp"].value == 0
    auroc = found["detector_auroc", ""].value
    assert auroc is not None
    assert auroc > 0.9
    assert found["dsg_gate_open", "retain"].value == 0


def test_the_headline_repeats_the_method_that_validation_chose(output: TaskOutput):
    found = values(output)
    chosen = output.notes["headline"]
    for metric in ("selective_forgetting", "forget_delta_ce", "question_accuracy_retain_change", "alignment"):
        assert found[metric, ""] == found[metric, chosen]
    others = {
        "over_diffmean": "diffmean",
        "selection_effect": "random_latents",
        "direction_effect": "random_directions",
    }
    for metric, other in others.items():
        difference = found["selective_forgetting", ""] - found["selective_forgetting", other]  # type: ignore[operator]
        assert found[metric, ""] == pytest.approx(difference)
    lost = [found[f"{part}_lost", ""] for part in ("topic", "fluency", "retain")]
    assert found["selective_forgetting", ""] == pytest.approx(lost[0] - lost[1] - lost[2])  # type: ignore[operator]


def test_the_trade_off_holds_every_setting(output: TaskOutput):
    table = output.arrays["trade_off/clamp"]
    assert table.dtype == np.float32
    assert table[:, 1].tolist() == [1.0, 4.0]
    assert table.shape == (2, 5)
    scores = table[:, 2] - table[:, 3] - table[:, 4]
    strength = output.notes["settings"]["clamp"]["strength"]
    assert table[scores.argmax(), 1] == strength
    assert "trade_off/random_latents" not in output.arrays


def test_a_clamp_against_a_plain_model(
    output: TaskOutput, shared: TaskContext, folder: Path, plain: Callable[[str], Plain]
):
    """Latents, sizes and cross-entropies worked out anew, in float64."""
    settings, sae, model = small_settings(folder), planted_sae(shared), plain("gemma3")
    drawn = documents(shared, settings)
    strength = output.notes["settings"]["clamp"]["strength"]
    fired: list[torch.Tensor] = []
    for text in drawn["fit"].forget:
        tokens = torch.tensor([[2, *shared.lm.tokenizer.encode(text, add_special_tokens=False)[-15:]]])
        fired.append(sae.encode(torch.from_numpy(model.activation(tokens, SITE)[0, 1:]).float())[:, list(PLANTED)])
    f = torch.cat(fired).double()
    size = f.sum(0) / (f > 0).sum(0)
    rise, count = 0.0, 0
    for item in document_items(shared, drawn["test"], settings)[: len(drawn["test"].forget)]:
        tokens = torch.tensor([item.tokens])
        x = torch.from_numpy(model.activation(tokens, SITE))
        z = sae.encode(x.float()).double()[..., list(PLANTED)]
        z[:, 0] = 0  # BOS stays
        new = x + torch.where(z > 0, -strength * size - z, 0.0) @ sae.rows[list(PLANTED)].double()
        where = np.ones(tokens.shape, bool)
        log_p = [model.log_probabilities(tokens), model.log_probabilities(tokens, SITE, where, new)]
        places = np.array(item.predict)
        ce = [-each[0, places - 1, tokens[0, places]].sum() for each in log_p]
        rise, count = rise + float(ce[1] - ce[0]), count + len(places)
    assert values(output)["forget_delta_ce", "clamp"] == pytest.approx(rise / count, rel=1e-3)


def test_a_second_sae_shares_directions_and_rmu(
    output: TaskOutput, shared: TaskContext, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("saebench.tasks.unlearning.scoring.methods.train_rmu", None)
    monkeypatch.setattr("saebench.tasks.unlearning.scoring.methods.direction_sweeps", None)
    again = results_without_sae(MethodScorer(shared, small_settings(folder), SITE))
    assert set(again) == {"diffmean", "ablation", "rmu"}


def test_the_gate_is_the_share_of_firing_tokens(shared: TaskContext, folder: Path):
    settings, sae = small_settings(folder), planted_sae(shared)
    fit, latents = documents(shared, settings)["fit"], np.array(PLANTED)
    rho = firing_shares(sae, shared, fit.texts, 16, latents)
    for text, share in zip(fit.texts[::7], rho[::7], strict=True):
        x = torch.cat([x for x, _ in shared.examples([text], 16).tokens(SITE)])
        assert share == pytest.approx(float((sae.encode(x)[:, latents] > 0).any(1).double().mean()))
    assert rho[fit.is_forget].mean() > 0.1
    assert rho[~fit.is_forget].max() == 0


def test_a_condition_that_never_holds_changes_nothing(shared: TaskContext, folder: Path):
    output = measure(planted_sae(shared), shared, small_settings(folder, condition=1e6, **QUICKLY))
    found = values(output)
    assert output.notes["settings"]["conditional"]["strength"] is None
    assert not output.arrays["trade_off/conditional"][:, 2:].any()
    for metric in ("forget_delta_ce", "retain_delta_ce", "selective_forgetting", "question_margin_forget_change"):
        assert found[metric, "conditional"] == 0
    assert output.notes["headline"] == "clamp"


def test_without_a_selected_latent_the_effect_is_zero_and_says_why(shared: TaskContext, folder: Path):
    settings = small_settings(folder, methods=["clamp", "dsg", "sspu"])
    output = measure(planted_sae(shared, blind=True), shared, settings)
    found = values(output)
    assert output.counts["selected_latents"] == 0
    assert "no latent passed" in output.notes["reason"]
    for method in ("", "clamp", "dsg", "sspu", "random_latents", "random_directions"):
        assert found["forget_delta_ce", method] == found["retain_delta_ce", method] == 0
    assert found["question_accuracy_forget_change", ""] == 0
    for metric in ("selective_forgetting", "selection_effect", "direction_effect"):
        assert found[metric, ""] == 0
    assert found["detector_auroc", ""] == 0.5
    assert found["saebench_unlearning_score", ""] == 0
    assert found["dsg_gate_open", "forget"] == 0


def test_no_document_is_in_two_splits_and_latents_see_fit_alone(
    context: Callable[..., TaskContext], texts: dict[str, list[str]], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    tiny = context("gemma3", read=reader(texts), batch_size=16)
    settings = small_settings(folder, **QUICKLY)
    drawn = documents(tiny, settings)
    every = [text for split in drawn.values() for text in split.texts]
    assert len(set(every)) == len(every)
    assert not set(every) & {t for ref in texts for t in tiny.text(ref).calibration.texts}
    assert [len(split.forget) for split in drawn.values()] == [24, 12, 14]
    assert [len(split.retain) for split in drawn.values()] == [24, 12, 14]
    seen: list[list[str]] = []
    monkeypatch.setattr(
        "saebench.tasks.unlearning.selection.activity",
        lambda sae, context, texts, length: seen.append(texts) or Rates(),
    )
    latent_statistics(planted_sae(tiny), tiny, settings)
    assert seen == [drawn["fit"].forget, drawn["fit"].retain]


class Rates:
    def token_rate(self) -> None: ...
    def mean(self) -> None: ...
    def mean_when_firing(self) -> None: ...


def test_the_latents_that_guide_sspu():
    statistics = LatentStatistics(
        forget_rate=np.array([0.5, 0.0, 0.3, 0.0, 0.1, 0.0]),
        retain_rate=np.array([0.0, 0.2, 0.001, 0.4, 0.3, 0.0]),  # the last one never fires
        forget_mean=np.zeros(6),
        retain_mean=np.zeros(6),
        size=np.zeros(6),
    )
    relevant, irrelevant = guiding_latents(statistics, UnlearningSettings(retain_threshold=0.01, sspu_latents=3))
    assert relevant.tolist() == [0, 2]
    assert irrelevant.tolist() == [3, 1, 4]


def test_sspu_is_left_out_where_no_decoder_row_can_guide_it(shared: TaskContext, folder: Path):
    sae = planted_sae(shared)
    sae.capabilities = sae.capabilities - {Capability.LINEAR_DECODER}
    output = measure(sae, shared, small_settings(folder, **{**QUICKLY, "methods": ["clamp", "sspu"]}))
    subsets = {m.subset for m in output.measurements}
    assert "sspu" not in subsets
    assert values(output)["forget_delta_ce", "clamp"] > 0.1  # type: ignore[operator]


def test_a_strength_of_0_takes_the_latents_out(shared: TaskContext, folder: Path):
    settings = small_settings(folder, strengths=[0.0, 1.0], **QUICKLY)
    sae = planted_sae(shared)
    sweeps = clamp_sweeps(sae, shared, latent_statistics(sae, shared, settings), settings)
    assert sweeps["clamp"][0].changes[0].describe()["value"] == [0.0, 0.0]


def test_absolute_strengths(shared: TaskContext, folder: Path):
    settings = small_settings(folder, strength_unit="absolute", strengths=[2.0], **QUICKLY)
    sae = planted_sae(shared)
    statistics = latent_statistics(sae, shared, settings)
    sweeps = clamp_sweeps(sae, shared, statistics, settings)
    assert sweeps["clamp"][0].changes[0].describe()["value"] == [-2.0, -2.0]
    threshold = sweeps["conditional"][0].changes[0].describe()["threshold"]
    assert threshold == pytest.approx(0.5 * statistics.size[list(PLANTED)].mean())


def test_the_same_seed_gives_the_same_numbers(context: Callable[..., TaskContext], texts: Any, folder: Path):
    settings = small_settings(folder, strengths=[4.0], questions=2, methods=["clamp"], generation_documents=0)
    one, other = (
        measure(planted_sae(tiny), tiny, settings)
        for tiny in (context("gemma3", read=reader(texts), batch_size=16) for _ in range(2))
    )
    assert values(one) == values(other)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_complete(preset: str):
    settings = UnlearningSettings.parse(CARD.resolve(preset), task="unlearning")
    assert settings.control_draws > 0
    assert set(settings.methods) <= set(METHODS)


def test_units_are_the_documents_and_the_questions(
    shared: TaskContext, output: TaskOutput, folder: Path, texts: dict[str, list[str]]
):
    settings = small_settings(folder, **QUICKLY)
    two = measure(planted_sae(shared), shared, settings)
    other_seed = TaskContext(shared.lm, seed=shared.seed + 1, read=reader(texts), batch_size=16)
    assert_units(output, same=two, other=measure(planted_sae(shared), other_seed, settings), differ={"document"})
    fewer = measure(planted_sae(shared), shared, small_settings(folder, **QUICKLY, questions=7))
    assert_units(output, same=two, other=fewer, differ={"question"})
