"""ground_truth: closed forms, invariances, chance, and SAELens' own metrics as a second implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens import synthetic as sae_lens
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from saebench.errors import NotApplicableError, SaebenchError
from saebench.evaluation import TaskOutput
from saebench.lm.synthetic import SyntheticLM
from saebench.passes.context import TaskContext
from saebench.sae.base import LoadContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.hook import HookSite
from saebench.sae.panel.adapter import PanelSAE
from saebench.sae.protocol import SAE
from saebench.sae.reference import load_sae
from saebench.synthetic.load import make
from saebench.synthetic.model import SyntheticModel
from saebench.synthetic.recipes import RECIPES
from saebench.tasks.ground_truth.data import samples_of
from saebench.tasks.ground_truth.settings import GroundTruthSettings
from saebench.tasks.ground_truth.task import GroundTruthTask
from tests.tasks.conftest import assert_units

SETTINGS = GroundTruthSettings.parse({"blocks": 4, "chance_draws": 3, "bootstrap_replicates": 100}, task="ground_truth")
CPU = torch.device("cpu")
MODELS = {name: make(RECIPES[name], 0, f"synthetic:{name}") for name in ("tiny", "orthogonal")}
CONTEXTS = {name: TaskContext(SyntheticLM(model, CPU)) for name, model in MODELS.items()}
# The number of latents is part of these only, so they differ between SAEs of different width.
Numbers = dict[tuple[str, str], float]


def measure(sae: SAE, name: str = "orthogonal", **changed: Any) -> TaskOutput:
    return GroundTruthTask().run(sae, CONTEXTS[name], SETTINGS.model_copy(update=changed))


def numbers(sae: SAE, name: str = "orthogonal") -> Numbers:
    return {(m.metric, m.subset): m.value for m in measure(sae, name).measurements if m.value is not None}


def exact(model: SyntheticModel, order: Tensor | None = None, **changed: Tensor) -> PanelSAE:
    """The true features as an SAE; in an orthogonal model its latents are the magnitudes."""
    rows = model.directions if order is None else model.directions[order]
    parts = {"encoder": rows, "decoder": rows, "low": torch.full((len(rows),), 1e-3), **changed}
    return PanelSAE(name="exact", kind="exact", bias=model.bias, **parts)


def noisy(name: str, latents: int = 20, seed: int = 0) -> PanelSAE:
    model, draw = MODELS[name], torch.Generator().manual_seed(seed)
    encoder, decoder = (
        model.directions[:latents] + 0.3 * torch.randn(latents, model.d, generator=draw) for _ in range(2)
    )
    return exact(model, encoder=encoder, decoder=decoder, low=torch.full((latents,), 1.0))


def test_the_true_features_are_perfect():
    found = numbers(exact(MODELS["orthogonal"]))
    perfect = {"mcc", "mcc_signed", "features_recovered", "uniqueness", "precision", "recall", "f1"}
    for (metric, subset), value in found.items():
        if metric in perfect | {"magnitude_ratio", "norm_ratio"}:
            assert value == pytest.approx(1, abs=1e-5), (metric, subset)
    assert {metric for metric, _ in found} > perfect
    assert found["fvu", ""] < 1e-10
    assert found["dead_share", ""] == 0
    assert found["l0", ""] == found["l0_true", ""]


def test_in_superposition_the_directions_are_perfect_and_detection_is_not():
    found = numbers(load_sae("synthetic-panel:oracle", LoadContext(synthetic=MODELS["tiny"])), "tiny")
    assert found["mcc", ""] == pytest.approx(1)
    assert 0.8 < found["f1", ""] < 1
    assert 0 < found["fvu", ""] < 0.3


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_latents_changes_nothing(seed: int):
    sae = noisy("tiny")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(sae.d_sae))
    turned = exact(MODELS["tiny"], encoder=sae.encoder[order], decoder=sae.decoder[order], low=sae.low)
    assert numbers(turned, "tiny") == pytest.approx(numbers(sae, "tiny"), abs=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(1e-3, 1e3), min_size=20, max_size=20))
def test_a_scale_of_latents_that_the_decoder_undoes_changes_nothing(factors: list[float]):
    sae, factor = noisy("tiny"), torch.tensor(factors)[:, None]
    scaled = exact(
        MODELS["tiny"], encoder=sae.encoder * factor, decoder=sae.decoder / factor, low=sae.low * factor[:, 0]
    )
    assert numbers(scaled, "tiny") == pytest.approx(numbers(sae, "tiny"), abs=1e-4)


def test_a_sign_flip_changes_signed_numbers_only():
    model = MODELS["orthogonal"]
    signs = torch.ones(24, 1)
    signs[:6] = -1
    flipped, found = numbers(exact(model, decoder=model.directions * signs)), numbers(exact(model))
    assert found["mcc_signed", ""] == pytest.approx(1)
    assert flipped["mcc_signed", ""] == pytest.approx(18 / 24)  # in an orthogonal model the others have cosine 0
    assert flipped["magnitude_ratio", ""] < found["magnitude_ratio", ""]
    of_reconstruction = {("magnitude_ratio", ""), ("norm_ratio", ""), ("fvu", "")}
    for key in set(found) - {("mcc_signed", "")} - of_reconstruction:
        assert flipped[key] == pytest.approx(found[key], abs=1e-5), key


def test_shrunk_latents_are_said_to_be_shrunk():
    model = MODELS["orthogonal"]
    found = numbers(exact(model, decoder=0.7 * model.directions))
    assert found["magnitude_ratio", ""] == pytest.approx(0.7, abs=1e-5)
    assert 0.7 < found["norm_ratio", ""] < 0.8  # the bias is not shrunk
    assert found["mcc", ""] == pytest.approx(1)


def test_dead_and_empty_latents_count():
    model = MODELS["orthogonal"]
    low = torch.full((24,), 1e-3)
    low[:6] = 1e30
    decoder = model.directions.clone()
    decoder[:3] = 0
    found = numbers(exact(model, low=low, decoder=decoder))
    assert found["dead_share", ""] == 6 / 24
    assert found["mcc", ""] == pytest.approx(21 / 24)
    assert found["uniqueness", ""] == pytest.approx(21 / 24)
    assert found["f1", ""] == pytest.approx(18 / 24)
    assert found["f1", "alive"] == pytest.approx(1)
    assert found["f1", "one_to_one"] == pytest.approx(18 / 21)
    assert found["features_recovered", ""] == pytest.approx(21 / 24)


def test_two_latents_for_one_feature_are_not_unique():
    model = MODELS["orthogonal"]
    found = numbers(exact(model, order=torch.cat([torch.arange(24), torch.arange(24)])))
    assert found["uniqueness", ""] == 0.5
    assert found["mcc", ""] == pytest.approx(1)
    assert found["f1", ""] == pytest.approx(1)


def test_random_directions_score_at_chance():
    model = MODELS["tiny"]
    sae = load_sae("synthetic-panel:random", LoadContext(seed=5, synthetic=model))
    output = measure(sae, "tiny", chance_draws=30)
    value, chance = ({m.metric: m for m in output.measurements}[metric] for metric in ("mcc", "mcc_chance"))
    rng = np.random.default_rng(1)
    simulated = [matched(rng.standard_normal((24, 16)), model.directions.double().numpy()) for _ in range(200)]
    assert chance.value == pytest.approx(np.mean(simulated), abs=4 * np.std(simulated) / np.sqrt(30))
    assert value.value == pytest.approx(np.mean(simulated), abs=4 * np.std(simulated))


def matched(a: np.ndarray, b: np.ndarray, signed: bool = False) -> float:
    """MCC in float64 by scipy alone."""
    cosines = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    cosines = cosines if signed else np.abs(cosines)
    rows, columns = linear_sum_assignment(-cosines)
    return float(cosines[rows, columns].mean())


@pytest.mark.parametrize("latents", [8, 24])
def test_the_numbers_are_those_of_sae_lens_and_of_numpy(latents: int):
    model, sae = MODELS["tiny"], noisy("tiny", latents)
    found = numbers(sae, "tiny")
    samples = samples_of(CONTEXTS["tiny"], model, SETTINGS)
    a, z = samples.features(slice(None)), sae.encode(samples.x)
    xhat = sae.decode(z)
    theirs = sae_lens.compute_classification_metrics(z, a, sae.decoder, model.directions)
    assert found["precision", ""] == pytest.approx(theirs.precision, abs=1e-6)
    assert found["recall", ""] == pytest.approx(theirs.recall, abs=1e-6)
    assert found["f1", ""] == pytest.approx(theirs.f1_score, abs=1e-6)
    assert found["mcc", ""] == pytest.approx(sae_lens.mean_correlation_coefficient(sae.decoder, model.directions))
    assert found["uniqueness", ""] == sae_lens.feature_uniqueness(sae.decoder, model.directions)
    decoder, truth = sae.decoder.double().numpy(), model.directions.double().numpy()
    assert found["mcc_signed", ""] == pytest.approx(matched(decoder, truth, signed=True), abs=1e-6)
    x, error = samples.x.double(), (samples.x - xhat).double()
    assert found["fvu", ""] == pytest.approx(float(error.square().sum() / (x - x.mean(0)).square().sum()))
    assert found["norm_ratio", ""] == pytest.approx(float((xhat.norm(dim=1) / samples.x.norm(dim=1)).mean()))
    assert found["l0", ""] == pytest.approx(float((z != 0).sum(1).double().mean()))
    assert found["l0_true", ""] == pytest.approx(float((a > 0).sum(1).double().mean()))


def test_weighted_means_weigh_by_firings():
    model, sae = MODELS["tiny"], noisy("tiny")
    output = measure(sae, "tiny")
    samples = samples_of(CONTEXTS["tiny"], model, SETTINGS)
    fired = (sae.encode(samples.x) != 0).sum(0).double().numpy()
    [weighted] = [m for m in output.measurements if (m.metric, m.subset) == ("f1", "weighted")]
    assert weighted.value == pytest.approx(np.average(output.arrays["f1"].astype(float), weights=fired))
    seen = (samples.features(slice(None)) > 0).sum(0).double().numpy()
    [recovered] = [m for m in output.measurements if (m.metric, m.subset) == ("features_recovered", "weighted")]
    assert recovered.value == pytest.approx(np.average(output.arrays["feature_cosine"] >= 0.9, weights=seen))


def test_signed_latents_fire_where_they_are_not_zero():
    found = numbers(NeuronBaseline(16, name="neurons", hook=HookSite.at("synthetic")), "tiny")
    assert found["l0", ""] == 16
    assert found["recall", ""] == pytest.approx(1)
    assert found["fvu", ""] == 0


def test_samples_are_those_of_the_seed_and_the_content():
    sae = noisy("tiny")
    fresh = TaskContext(SyntheticLM(MODELS["tiny"], CPU))
    again = {(m.metric, m.subset): m.value for m in GroundTruthTask().run(sae, fresh, SETTINGS).measurements}
    assert again == numbers(sae, "tiny")
    other = GroundTruthTask().run(sae, TaskContext(SyntheticLM(MODELS["tiny"], CPU), seed=1), SETTINGS)
    assert_units(measure(sae, "tiny"), same=measure(noisy("tiny", 8), "tiny"), other=other, differ={"block"})


def test_what_was_not_made_for_the_model_is_not_applicable(context: Callable[..., TaskContext]):
    at_block = NeuronBaseline(16, name="neurons", hook=HookSite.at("blocks.1.hook_resid_post"))
    with pytest.raises(NotApplicableError, match=r"it reads 16 dimensions at blocks\.1\.hook_resid_post"):
        measure(at_block, "tiny")
    with pytest.raises(NotApplicableError, match="it reads 16 dimensions at synthetic, and the synthetic model has 32"):
        measure(NeuronBaseline(16, name="neurons", hook=HookSite.at("synthetic")), "orthogonal")
    with pytest.raises(NotApplicableError, match="whose true features nobody knows"):
        GroundTruthTask().run(at_block, context(), SETTINGS)


class _Broken(NeuronBaseline):
    def encode(self, x: Tensor) -> Tensor:
        return x * torch.nan


def test_nan_is_an_error():
    with pytest.raises(SaebenchError, match="its latents hold NaN or Inf"):
        measure(_Broken(16, name="broken", hook=HookSite.at("synthetic")), "tiny")


def test_a_feature_that_never_fires_does_not_break_anything():
    recipe = replace(RECIPES["orthogonal"], p_min=1e-7, p_max=0.2, exponent=3.0, roots=0, rank=0)
    model = make(recipe, 0, "rare")
    output = GroundTruthTask().run(exact(model), TaskContext(SyntheticLM(model, CPU)), SETTINGS)
    assert output.counts["features_seen"] < 24
    found = {(m.metric, m.subset): m.value for m in output.measurements}
    assert found["mcc", ""] == pytest.approx(1)
    assert found["recall", ""] == pytest.approx(output.counts["features_seen"] / 24)
    assert found["f1", "alive"] == pytest.approx(1)
