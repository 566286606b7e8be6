"""The panel of SAEs for a synthetic model: each of them is wrong in the way that its name says, and in no other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from saebench.errors import NotApplicableError, SAELoadError, UsageError
from saebench.sae.base import LoadContext
from saebench.sae.conformance import CHECKS
from saebench.sae.hook import HookSite
from saebench.sae.panel.make import best_thresholds
from saebench.sae.panel.pairs import in_pairs
from saebench.sae.panel.scheme import PANEL, PanelScheme
from saebench.sae.protocol import SAE
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.synthetic.load import load_synthetic, make
from saebench.synthetic.model import Samples, SyntheticModel
from saebench.synthetic.recipes import RECIPES, Recipe
from saebench.synthetic.reference import parse_synthetic_ref
from saebench.testing import Subject, run_check

ORTHOGONAL: list[SyntheticModel] = []
QUICK = {"trained": "steps=20", "frozen": "steps=20"}


def orthogonal() -> SyntheticModel:
    """A model whose features a linear encoder can recover, made once."""
    if not ORTHOGONAL:
        ORTHOGONAL.append(load_synthetic(parse_synthetic_ref("synthetic:orthogonal")))
    return ORTHOGONAL[0]


def panel(body: str, seed: int = 0, model: SyntheticModel | None = None) -> SAE:
    return load_sae(f"synthetic-panel:{body}", LoadContext(seed=seed, synthetic=model or orthogonal()))


@pytest.fixture(scope="module")
def samples() -> Samples:
    return orthogonal().sample(2000, np.random.default_rng(9))


def fvu(sae: SAE, x: Tensor) -> float:
    error = x - sae.decode(sae.encode(x))
    return float(error.square().sum() / (x - x.mean(0)).square().sum())


def quick(kind: str) -> str:
    return f"{kind}?{QUICK[kind]}" if kind in QUICK else kind


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", [form.body for form in PanelScheme.forms])
def test_conformance(kind: str, check: str, subjects: Callable[[str], Subject]):
    result = run_check(check, subjects(kind))
    assert result.ok or result.skipped, result.detail


@pytest.fixture(scope="module")
def subjects() -> Callable[[str], Subject]:
    made: dict[str, Subject] = {}

    def subject(kind: str) -> Subject:
        x = orthogonal().sample(64, np.random.default_rng(0)).x
        return made.setdefault(kind, Subject(lambda: panel(quick(kind)), lambda site: orthogonal().d, x))

    return subject


@pytest.mark.parametrize("kind", [form.body for form in PanelScheme.forms])
def test_the_model_and_the_seed_decide_it(kind: str):
    one, same, other = (panel(quick(kind), seed) for seed in (0, 0, 1))
    assert one.fingerprint() == same.fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert one.hook == HookSite.at("synthetic")
    assert one.control == (PanelScheme().control(parse_sae_ref(f"synthetic-panel:{kind}")) is not None)


def test_the_oracle_gives_the_features_and_their_magnitudes(samples: Samples):
    sae = panel("oracle")
    assert_close(sae.encode(samples.x), samples.features(slice(None)), atol=1e-4, rtol=0)
    assert fvu(sae, samples.x) < 1e-8


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_noise_is_relative_to_the_feature(noise: float):
    cosines = (panel(f"noisy?noise={noise}").decoder_directions() * orthogonal().directions).sum(1)
    # The noise has a random part along the feature, so the cosine scatters around that of orthogonal noise.
    assert float(cosines.mean()) == pytest.approx(1 / np.sqrt(1 + noise**2), abs=0.1)


@pytest.mark.parametrize(
    ("n", "share", "pairs"), [(367, 1.0, 183), (24, 1.0, 12), (24, 0.5, 6), (5, 0.9, 2), (2, 0.4, 0)]
)
def test_features_are_merged_two_by_two(n: int, share: float, pairs: int):
    merged, alone = in_pairs(torch.arange(n), share)
    assert merged.shape == (pairs, 2)
    assert sorted([*merged.flatten().tolist(), *alone.tolist()]) == list(range(n))


@pytest.mark.parametrize(("share", "latents"), [(1, 12), (0.5, 18)])
def test_merged_latents_fire_for_two_features(samples: Samples, share: float, latents: int):
    sae = panel(f"merged?share={share}")
    assert sae.d_sae == latents
    cosines = sae.decoder_directions() @ orthogonal().directions.T
    features = cosines.topk(2, dim=1).indices[: 24 - latents]
    assert_close(cosines.gather(1, features), torch.full((24 - latents, 2), 0.5**0.5))
    either = samples.features(slice(None))[:, features].any(-1)
    assert torch.equal(sae.encode(samples.x)[:, : 24 - latents] != 0, either)


def test_split_latents_share_the_firings_of_a_feature(samples: Samples):
    weak, strong = (panel("split").encode(samples.x) != 0).chunk(2, dim=1)
    fires = samples.features(slice(None)) > 0
    assert not bool((weak & strong).any())
    assert torch.equal(weak | strong, fires)
    halves = weak.sum(0) / fires.sum(0)
    assert_close(halves, torch.full_like(halves, 0.5), atol=0.15, rtol=0)


def test_an_absorbed_parent_is_silent_where_its_child_fires(samples: Samples):
    parents, fires = orthogonal().parents, samples.features(slice(None)) > 0
    z = panel("absorbed").encode(samples.x) != 0
    children = (parents >= 0).nonzero()[:, 0]
    assert not bool((z[:, parents[children]] & fires[:, children]).any())
    covered = torch.zeros_like(fires).index_add_(1, parents[children], fires[:, children]) > 0
    assert torch.equal(z, fires & ~covered)
    assert fvu(panel("absorbed"), samples.x) < 0.01  # the child writes what its parent would have written


def test_absorption_needs_a_hierarchy():
    flat = make(Recipe(n_features=8, d=8, latents=8, orthogonal=None, rank=0), 0, "flat")
    with pytest.raises(NotApplicableError, match="needs features with a hierarchy, which flat has not"):
        panel("absorbed", model=flat)


def test_rotated_latents_span_the_groups(samples: Samples):
    sae = panel("rotated?size=4")
    cosines = sae.decoder_directions() @ orthogonal().directions.T
    assert_close(cosines @ cosines.T, torch.eye(24), atol=1e-4, rtol=0)
    assert int((cosines.abs() > 1e-5).sum()) == 24 * 4
    assert float(cosines.abs().max()) < 1
    with pytest.raises(SAELoadError, match="groups must have from 2 to 24 features"):
        panel("rotated?size=25")


def test_random_directions_have_the_true_l0(samples: Samples):
    true = len(samples.magnitude) / len(samples)
    assert float((panel("random").encode(samples.x) != 0).sum(1).float().mean()) == pytest.approx(true, rel=0.1)
    assert panel("random?latents=7").d_sae == 7


@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_training_lowers_the_error_and_keeps_decoder_rows_at_length_one(samples: Samples, architecture: str):
    errors = [fvu(panel(f"trained?architecture={architecture}&steps={steps}"), samples.x) for steps in (1, 300)]
    assert errors[1] < 0.6 * errors[0]
    norms = panel(f"trained?architecture={architecture}&steps=5").decoder_directions().norm(dim=1)
    assert_close(norms, torch.ones_like(norms))


def test_a_frozen_decoder_stays_where_it_begins():
    few, many, trained = (
        panel(body).decoder_directions() for body in ("frozen?steps=1", "frozen?steps=9", "trained?steps=9")
    )
    assert torch.equal(few, many)
    assert not torch.equal(many, trained)
    assert_close(trained, many, atol=0.1, rtol=0)


def test_training_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    panel("trained?steps=2")
    assert torch.equal(torch.get_rng_state(), before)


@given(
    st.lists(
        st.tuples(st.floats(-5, 5, width=16), st.booleans()), min_size=1, max_size=12, unique_by=lambda each: each[0]
    )
)
def test_a_threshold_has_the_greatest_f1(each: list[tuple[float, bool]]):
    before, targets = torch.tensor([p for p, _ in each]), torch.tensor([target for _, target in each])

    def f1(threshold: float) -> float:
        fires = before > threshold
        whole = int(fires.sum() + targets.sum())
        return 2 * int((fires & targets).sum()) / whole if whole else 0.0

    threshold = float(best_thresholds(before[:, None], targets[:, None]))
    assert f1(threshold) == max(f1(float(cut)) for cut in (*before, before.min() - 1))
    assert bool(targets.any()) or threshold > 1e30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("synthetic-panel:orakle", "Did you mean 'oracle'"),
        ("synthetic-panel:oracle?noise=1", "has no option 'noise'"),
        ("synthetic-panel:noisy?noise=-1", "noise must be a number above 0"),
        ("synthetic-panel:merged?share=1.5", "share must be a share above 0 and up to 1"),
        ("synthetic-panel:trained?architecture=gru", "architecture must be topk or relu"),
    ],
)
def test_wrong_references_are_refused(text: str, said: str):
    with pytest.raises(UsageError, match=said):
        parse_sae_ref(text)


@settings(max_examples=50)
@given(st.sampled_from(sorted(form.body for form in PanelScheme.forms)), st.text(max_size=8), st.text(max_size=8))
def test_any_option_is_taken_or_refused(kind: str, key: str, value: str):
    with suppress(UsageError):
        parse_sae_ref(f"synthetic-panel:{kind}?{key}={value}")


def test_without_a_synthetic_model_there_is_no_panel():
    with pytest.raises(SAELoadError, match="is made for a synthetic model; name one with --model"):
        load_sae("synthetic-panel:oracle", LoadContext())


def test_more_active_latents_than_latents():
    with pytest.raises(SAELoadError, match="k=30 must not be above the number of latents, 24"):
        panel("trained?k=30")


def test_the_default_panel_can_be_parsed():
    assert len({parse_sae_ref(text) for text in PANEL}) == len(PANEL)
    assert RECIPES.keys() >= {"tiny", "small"}
