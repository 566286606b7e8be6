"""The task on tiny language models: every number against numpy, controls with known answers, and bad input."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from torch import Tensor

from saebench.cards.card import PRESETS, cards_dir, load_card
from saebench.data.text import Documents
from saebench.evaluation.task import SAEGroup, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.base import BaseAdapter
from saebench.sae.baselines import NeuronBaseline, PCABaseline
from saebench.sae.protocol import SAE, Capability, HookSite
from saebench.tasks.dark_matter.data import evaluation_batch, fit_batch, loss_batch
from saebench.tasks.dark_matter.scoring.fit import fit_inputs
from saebench.tasks.dark_matter.settings import DarkMatterSettings
from saebench.tasks.dark_matter.task import DarkMatterTask
from tests.conftest import WIDTH
from tests.tasks.conftest import Plain, assert_units, documents, topk_sae, transcoder

SITE = "blocks.1.hook_resid_post"
CARD = load_card(cards_dir() / "dark_matter.yaml")
CHANGES = {
    "text": "memory:tiny",
    "context_length": 24,
    "sequences": 30,
    "loss_sequences": 6,
    "bootstrap_replicates": 100,
}
SETTINGS = DarkMatterSettings.parse(CHANGES, task="dark_matter")
Make = Callable[..., TaskContext]
TEXT = documents(n=400)


@pytest.fixture
def tiny(context: Make) -> TaskContext:
    return context("gemma3", read=lambda ref: TEXT, batch_size=16)


@pytest.fixture(scope="module")
def written(plain: Callable[[str], Plain], tiny_tokenizer: Any) -> Documents:
    """Text that the model predicts well, so that splicing costs something."""
    return plain("gemma3").written(tiny_tokenizer, n=300)


@pytest.fixture
def knowing(context: Make, written: Documents) -> TaskContext:
    return context("gemma3", read=lambda ref: written, batch_size=16)


def changed(**changes: Any) -> DarkMatterSettings:
    return DarkMatterSettings.parse({**CHANGES, **changes}, task="dark_matter")


def measure(sae: SAE, context: TaskContext, **changes: Any) -> TaskOutput:
    return DarkMatterTask().run(sae, context, changed(**changes))


def values(output: TaskOutput) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.subset): m.value for m in output.measurements}


class Function(BaseAdapter):
    """Reconstructs with whatever function it is given."""

    def __init__(self, function: Callable[[Tensor], Tensor], site: str = SITE) -> None:
        position_wise = frozenset({Capability.POSITION_WISE})
        super().__init__(
            name="function",
            architecture="function",
            hook=HookSite.at(site),
            d_in=WIDTH,
            d_sae=WIDTH,
            capabilities=position_wise,
        )
        self.function = function

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return self.function(z)

    def settings(self) -> dict[str, object]:
        return {"function": id(self.function)}


def r2(y: np.ndarray, predicted: np.ndarray) -> float:
    """Pooled over columns."""
    return float(1 - ((y - predicted) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())


@pytest.mark.parametrize("family", ["gemma3", "gpt2"])
@pytest.mark.parametrize("crossing", [False, True])
def test_every_number_of_an_sae(context: Make, plain: Callable[[str], Plain], family: str, crossing: bool):
    """Against scikit-learn and full passes of a plain model in float64."""
    site_in, site_out = ("blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out") if crossing else (SITE, SITE)
    sae = transcoder(site_in, site_out) if crossing else topk_sae(SITE)
    tiny = context(family, read=lambda ref: TEXT, batch_size=16)
    found = values(measure(sae, tiny))
    texts = fit_batch(tiny, SETTINGS, WIDTH), evaluation_batch(tiny, SETTINGS, WIDTH)
    model = plain(family)
    x, y, e, l0 = [], [], [], []
    for batch in texts:
        where = batch.evaluated.numpy()
        x.append(model.activation(batch.tokens, site_in)[where])
        y.append(model.activation(batch.tokens, site_out)[where])
        codes = sae.encode(torch.from_numpy(x[-1]).float())
        e.append(y[-1] - sae.decode(codes).detach().double().numpy())
        l0.append((codes != 0).double().sum(1, keepdim=True).numpy())
    total = ((y[1] - y[1].mean(0)) ** 2).sum()
    expected: dict[tuple[str, str], float] = {("fvu", ""): (e[1] ** 2).sum() / total, ("l0", ""): l0[1].mean()}
    centre = x[0].mean(0)
    distance = [np.linalg.norm(part - centre, axis=1) for part in x]
    ordinary = distance[1] <= 10 * np.median(distance[0])
    norm = [np.linalg.norm(part, axis=1) for part in e]
    powers: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "norm_r2": lambda a: a,
        "norm_squared_r2": np.square,
        "log_norm_r2": np.log,
    }
    for subset, intercept, shift in (("", True, 0), ("no_intercept", False, 0), ("centred", False, centre)):
        vector = LinearRegression(fit_intercept=intercept).fit(x[0] - shift, e[0]).predict(x[1] - shift)
        left = ((e[1] - vector) ** 2).sum() / total
        expected[("fvu_nonlinear", subset)] = left
        expected[("linear_share", subset)] = expected[("fvu", "")] - left
        expected[("error_r2", subset)] = r2(e[1], vector)
        expected[("error_r2_per_dimension", subset)] = r2_score(e[1], vector)
        for metric, power in powers.items() if subset != "centred" else ():
            of_norm = LinearRegression(fit_intercept=intercept).fit(x[0] - shift, power(norm[0]))
            expected[(metric, subset)] = r2_score(power(norm[1]), of_norm.predict(x[1] - shift))
            if not subset:
                ours = (power(norm[1])[ordinary], of_norm.predict(x[1])[ordinary])
                expected[(metric, "ordinary_tokens")] = r2_score(*ours)
    tokens = [batch.tokens[batch.evaluated].numpy() for batch in texts]
    for metric, power in powers.items():
        length = [power(np.linalg.norm(part, axis=1))[:, None] for part in x]
        lines = {"activation_norm": length, "l0": l0}
        for subset, feature in lines.items():
            line = LinearRegression().fit(feature[0], power(norm[0]))
            expected[(metric, subset)] = r2_score(power(norm[1]), line.predict(feature[1]))
        known = {t: power(norm[0])[tokens[0] == t].mean() for t in np.unique(tokens[0])}
        means = np.array([known.get(t, power(norm[0]).mean()) for t in tokens[1]])
        expected[(metric, "token_mean")] = r2_score(power(norm[1]), means)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=2e-4), key
    # A norm without its mean is not predicted at all, so the centred fit has no R^2 of norms.
    assert not {(metric, "centred") for metric in powers} & found.keys()


def test_cross_entropies(knowing: TaskContext, plain: Callable[[str], Plain]):
    sae = topk_sae(SITE)
    found = values(measure(sae, knowing))
    fit, batch = fit_batch(knowing, SETTINGS, WIDTH), loss_batch(knowing, SETTINGS, WIDTH)
    model = plain("gemma3")
    where = batch.evaluated.numpy()

    def reconstruct(x: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(x).float()
        return sae.decode(sae.encode(given)).detach().double().numpy()

    x = model.activation(fit.tokens, SITE)[fit.evaluated.numpy()]
    line = LinearRegression().fit(x, x - reconstruct(x))
    whole = model.activation(batch.tokens, SITE)
    x = whole[where]

    def ce(rows: np.ndarray | None) -> float:
        new = np.zeros_like(whole)
        if rows is not None:
            new[where] = rows
        log_p = model.log_probabilities(batch.tokens, None if rows is None else SITE, where, new)
        chosen = np.take_along_axis(log_p[:, :-1], batch.tokens.numpy()[:, 1:, None], -1)[..., 0]
        return float(-chosen[where[:, 1:]].mean())

    clean, alone, linear = ce(None), ce(reconstruct(x)), ce(reconstruct(x) + line.predict(x))
    assert found["ce_clean", ""] == pytest.approx(clean, rel=1e-4)
    assert found["ce_sae", ""] == pytest.approx(alone, rel=1e-4)
    assert found["ce_sae_linear", ""] == pytest.approx(linear, rel=1e-4)
    assert alone > clean
    assert found["ce_recovered_by_linear", ""] == pytest.approx((alone - linear) / (alone - clean), rel=2e-3, abs=2e-3)
    random = found["ce_sae_random", ""]
    assert random is not None
    recovered = (alone - random) / (alone - clean)
    assert found["ce_recovered_by_linear", "random_direction"] == pytest.approx(recovered, rel=2e-3, abs=2e-3)


def test_the_loss_predicts_as_a_line_fitted_to_the_other_half(tiny: TaskContext, plain: Callable[[str], Plain]):
    sae = topk_sae(SITE)
    found = values(measure(sae, tiny))
    batch, n = loss_batch(tiny, SETTINGS, WIDTH), SETTINGS.loss_sequences
    model = plain("gemma3")
    log_p = model.log_probabilities(batch.tokens)
    loss = -np.take_along_axis(log_p[:, :-1], batch.tokens.numpy()[:, 1:, None], -1)[..., 0]
    both = (batch.evaluated[:, :-1] & batch.evaluated[:, 1:]).numpy()
    x = torch.from_numpy(model.activation(batch.tokens, SITE)).float()
    norm = (x - sae.decode(sae.encode(x)).detach()).double().norm(dim=-1).numpy()[:, :-1]
    halves = [(slice(0, n // 2), slice(n // 2, n)), (slice(n // 2, n), slice(0, n // 2))]
    predicted = np.zeros_like(norm)
    for fitted, rows in halves:
        line = LinearRegression().fit(loss[fitted][both[fitted]][:, None], norm[fitted][both[fitted]])
        predicted[rows] = line.predict(loss[rows].reshape(-1, 1)).reshape(loss[rows].shape)
    assert found["norm_r2", "loss"] == pytest.approx(r2_score(norm[both], predicted[both]), rel=1e-3, abs=1e-3)


def test_pca_leaves_a_linear_error(knowing: TaskContext):
    pca = PCABaseline(knowing.calibration("memory:tiny", SITE), name="pca", hook=HookSite.at(SITE), k=9)
    found = values(measure(pca, knowing))
    assert found["fvu", ""] > 0.05
    for fit in ("", "ordinary_tokens"):
        assert found["fvu_nonlinear", fit] == pytest.approx(0, abs=1e-9)
        assert found["error_r2", fit] == pytest.approx(1, abs=1e-9)
    assert found["error_r2_per_dimension", ""] == pytest.approx(1, abs=1e-6)
    assert found["linear_share", ""] == pytest.approx(found["fvu", ""])
    assert found["ce_sae_linear", ""] == pytest.approx(found["ce_clean", ""], abs=1e-5)
    assert found["ce_recovered_by_linear", ""] == pytest.approx(1, abs=1e-3)
    assert found["norm_r2", "l0"] == pytest.approx(0, abs=0.1)  # constant


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.3])
def test_shrinkage_is_linear_with_or_without_an_intercept(tiny: TaskContext, alpha: float):
    found = values(measure(Function(lambda x: alpha * x), tiny))
    for fit in ("", "no_intercept"):
        assert found["error_r2", fit] == pytest.approx(1, abs=1e-9)
        assert found["fvu_nonlinear", fit] == pytest.approx(0, abs=1e-9)
    for metric in ("norm_r2", "norm_squared_r2", "log_norm_r2"):
        assert found[metric, "activation_norm"] == pytest.approx(1, abs=1e-6)


def test_a_shift_is_predicted_by_the_intercept_alone(tiny: TaskContext):
    found = values(measure(Function(lambda x: x - 0.5 * (x - 3)), tiny))
    assert found["error_r2", ""] == pytest.approx(1, abs=1e-9)
    assert found["error_r2", "centred"] < 0.999
    assert found["fvu_nonlinear", "centred"] > 1e-6


def test_an_error_that_is_half_linear(tiny: TaskContext):
    """A linear part, and as much again that no line can tell: the fractional part of a large multiple."""
    found: list[Tensor] = []
    measure(Function(lambda x: found.append(x.clone()) or x * 0), tiny)
    sd = torch.cat(found).std(0)

    def reconstruct(x: Tensor) -> Tensor:
        noise = ((x.double() @ mixing * 1e4) % 1 - 0.5).float() * 12**0.5
        return x - (x * 0.1 + noise * 0.1 * sd)

    mixing = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output = measure(Function(reconstruct), tiny, tokens_per_dimension=90)
    found_values = values(output)
    assert found_values["error_r2", ""] == pytest.approx(0.5, abs=0.04)
    assert found_values["error_r2_per_dimension", ""] == pytest.approx(0.5, abs=0.04)
    assert found_values["linear_share", ""] == pytest.approx(0.5 * found_values["fvu", ""], rel=0.08)


def test_neurons_have_no_error_and_nothing_to_score(tiny: TaskContext):
    output = measure(NeuronBaseline(WIDTH, name="n", hook=HookSite.at(SITE)), tiny)
    found = values(output)
    assert found["fvu", ""] == 0
    assert found["fvu_nonlinear", ""] == 0
    measured = {"fvu", "fvu_nonlinear", "linear_share", "l0", "ce_clean", "condition_number"}
    for m in output.measurements:
        if m.metric not in measured:
            assert (m.value, m.ci_low) == (None, None), m.metric
            assert "exact up to rounding" in str(m.not_scored)
    assert output.counts["not_scored"] == sum(m.value is None for m in output.measurements) > 20


def test_rounding_is_no_error(tiny: TaskContext):
    rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))).Q
    output = measure(Function(lambda x: (x @ rotation) @ rotation.T), tiny)
    [error] = [m for m in output.measurements if (m.metric, m.subset) == ("error_r2", "")]
    assert error.value is None


def test_a_single_token_without_error_leaves_the_logarithm_unscored(tiny: TaskContext):
    first = []

    def reconstruct(x: Tensor) -> Tensor:
        out = 0.5 * x + x.square() * 0.1
        if not first:
            first.append(x[0].clone())
        return torch.where((x == first[0]).all(-1, keepdim=True), x, out)

    output = measure(Function(reconstruct), tiny)
    found = values(output)
    assert found["log_norm_r2", ""] is None
    assert found["norm_r2", ""] is not None
    assert found["error_r2", ""] is not None


def test_every_metric_of_the_card_with_its_interval(knowing: TaskContext):
    output = measure(topk_sae(SITE), knowing)
    of_groups = {m.id for m in CARD.metrics if m.id.startswith("agreement")}
    assert {m.metric for m in output.measurements} == {m.id for m in CARD.metrics} - of_groups
    keys = [(m.metric, m.subset) for m in output.measurements]
    assert len(set(keys)) == len(keys)
    for m in output.measurements:
        assert m.value is not None, m
        if m.contributions:
            num, den = (output.arrays[f"{m.contributions}.{part}"] for part in ("num", "den"))
            assert num.dtype == den.dtype == np.float64
            assert num.sum() / den.sum() == m.value
            losses = m.metric.startswith("ce_") or m.subset == "loss"
            assert len(num) == len(den) == m.n == (6 if losses else 30)
        if m.ci_low is not None and m.ci_high is not None:
            assert m.ci_low <= m.value <= m.ci_high
        else:
            assert m.metric in ("condition_number", "l0") or m.subset == "loss", m
    counts = output.counts
    assert counts["fit_tokens"] >= 30 * WIDTH
    assert counts["not_scored"] == 0
    assert counts["sequences"] == 30
    assert "ce_sae_random" not in {
        m.metric for m in measure(topk_sae(SITE), knowing, random_direction_control=False).measurements
    }


def test_the_batch_size_does_not_change_numbers(context: Make):
    one, other = (
        values(measure(topk_sae(SITE), context("gemma3", read=lambda ref: TEXT, batch_size=size))) for size in (3, 16)
    )
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert other[key] == (None if value is None else pytest.approx(value, rel=1e-3, abs=1e-5)), key


def test_activations_are_computed_once_for_all_saes(tiny: TaskContext, monkeypatch: pytest.MonkeyPatch):
    DarkMatterTask().run(topk_sae(SITE), tiny, SETTINGS)
    monkeypatch.setattr(type(tiny.lm), "prefix", None)
    monkeypatch.setattr(type(tiny.lm), "capture", None)
    monkeypatch.setattr("saebench.tasks.dark_matter.scoring.fit.FitInputs", None)
    DarkMatterTask().run(topk_sae(SITE, seed=1), tiny, SETTINGS)


def test_only_the_inputs_of_the_latest_site_are_kept(tiny: TaskContext):
    captured = tiny.capture(fit_batch(tiny, SETTINGS, WIDTH))
    inputs = fit_inputs(captured, SITE, tiny)
    assert fit_inputs(captured, SITE, tiny) is inputs
    kept = weakref.ref(inputs)
    del inputs
    assert kept() is not None
    assert fit_inputs(captured, "blocks.0.hook_resid_post", tiny).site == "blocks.0.hook_resid_post"
    assert kept() is None


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_complete(preset: str):
    resolved = CARD.resolve(preset)
    assert resolved["tokens_per_dimension"] >= 30
    assert resolved["loss_sequences"] <= resolved["sequences"]
    assert CARD.scope == "both"


def test_units_are_the_sequences(context: Make, tiny: TaskContext):
    one, two, fewer = (measure(topk_sae(SITE, seed), tiny, loss_sequences=n) for seed, n in ((0, 6), (1, 6), (0, 5)))
    other = measure(topk_sae(SITE), context("gemma3", read=lambda ref: TEXT, batch_size=16, seed=1))
    assert_units(one, same=two, other=other, differ={"sequence"})
    assert_units(one, same=two, other=fewer, differ={"sequence"})
    pairs = [
        DarkMatterTask().run_group(SAEGroup("pair", (topk_sae(SITE), topk_sae(SITE, seed))), made, SETTINGS)
        for made, seed in ((tiny, 1), (tiny, 2), (context("gemma3", read=lambda ref: TEXT, batch_size=16, seed=1), 1))
    ]
    assert_units(pairs[0], same=pairs[1], other=pairs[2], differ={"sequence"})
