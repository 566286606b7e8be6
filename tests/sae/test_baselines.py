from __future__ import annotations

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.testing import assert_close

from saebench.errors import SAELoadError
from saebench.sae.baselines import NeuronBaseline, PCABaseline, PermutedDecoderBaseline, RandomBaseline
from saebench.sae.protocol import SAE, Capability, HookSite

HOOK = HookSite.at("blocks.9.hook_resid_post")


@pytest.fixture(scope="module")
def activations() -> Tensor:
    """Correlated, off-centre, one giant dimension: like a residual stream."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(500, 16, generator=draw) @ torch.randn(16, 16, generator=draw) + 3
    x[:, 5] *= 40
    return x


def fvu(x: Tensor, xhat: Tensor) -> float:
    return float((x - xhat).square().sum() / (x - x.mean(0)).square().sum())


def test_pca_agrees_with_sklearn(activations: Tensor) -> None:
    ours = PCABaseline(activations, name="pca", hook=HOOK, k=4)
    theirs = PCA(n_components=4).fit(activations.double().numpy())
    expected = torch.from_numpy(theirs.inverse_transform(theirs.transform(activations.double().numpy()))).float()
    z = ours.encode(activations)
    assert isinstance(ours, SAE)
    assert z.shape == (500, 4)
    assert Capability.NON_NEGATIVE not in ours.capabilities
    assert bool((z < 0).any())
    assert_close(ours.decode(z), expected, rtol=1e-3, atol=1e-3)
    variances = z.var(0)
    assert bool((variances[:-1] >= variances[1:]).all())  # leading component first


def test_pca_of_full_rank_reconstructs(activations: Tensor) -> None:
    sae = PCABaseline(activations, name="pca", hook=HOOK, k=16)
    assert fvu(activations, sae.decode(sae.encode(activations))) < 1e-8


def test_pca_refuses_too_many_components(activations: Tensor) -> None:
    with pytest.raises(SAELoadError, match="k=17"):
        PCABaseline(activations, name="pca", hook=HOOK, k=17)
    with pytest.raises(SAELoadError, match="k=16"):
        PCABaseline(activations[:10], name="pca", hook=HOOK, k=16)


def test_neurons_are_the_identity(activations: Tensor) -> None:
    sae = NeuronBaseline(16, name="neurons", hook=HOOK)
    assert torch.equal(sae.decode(sae.encode(activations)), activations)
    assert torch.equal(sae.decoder_directions(), torch.eye(16))


@pytest.mark.parametrize("l0", [2.0, 7.5, 20.0])
def test_random_meets_the_wanted_l0(activations: Tensor, l0: float) -> None:
    sae = RandomBaseline(activations, name="random", hook=HOOK, seed=1, l0=l0, d_sae=128)
    z = sae.encode(activations)
    assert float((z > 0).sum(-1).float().mean()) == pytest.approx(l0, abs=0.01)
    assert bool((z >= 0).all())
    assert_close(sae.encoder_directions().norm(dim=-1), torch.ones(128))


def test_random_gain_is_the_best(activations: Tensor) -> None:
    sae = RandomBaseline(activations, name="random", hook=HOOK, seed=1, l0=8, d_sae=128)
    z = sae.encode(activations)
    best = fvu(activations, sae.decode(z))
    fitted = sae.gain.clone()
    for factor in (0.9, 1.1):
        sae.gain = fitted * factor
        assert fvu(activations, sae.decode(z)) > best
    assert best < 1


def test_random_is_fitted_to_a_sample_when_tokens_are_many(
    activations: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saebench.sae.baselines._CALIBRATION_ELEMENTS", 100 * 128)
    sae = RandomBaseline(activations, name="random", hook=HOOK, seed=1, l0=8, d_sae=128)
    assert float((sae.encode(activations) > 0).sum(-1).float().mean()) == pytest.approx(8, rel=0.15)


def test_random_depends_on_its_seed_alone(activations: Tensor) -> None:
    def fingerprint(seed: int) -> str:
        return RandomBaseline(activations, name="r", hook=HOOK, seed=seed, l0=8, d_sae=64).fingerprint()

    torch.manual_seed(0)
    first = fingerprint(1)
    torch.manual_seed(99)
    assert first == fingerprint(1) != fingerprint(2)


def test_random_refuses_what_cannot_be(activations: Tensor) -> None:
    with pytest.raises(SAELoadError, match="l0=64"):
        RandomBaseline(activations, name="r", hook=HOOK, seed=0, l0=64, d_sae=128)
    with pytest.raises(SAELoadError, match="no latent fires"):
        RandomBaseline(torch.ones(50, 16), name="r", hook=HOOK, seed=0, l0=8, d_sae=128)


@pytest.mark.parametrize("bad", [torch.full((5, 4), torch.nan), torch.ones(4), torch.ones(1, 4)])
def test_calibration_is_checked(bad: Tensor) -> None:
    with pytest.raises(SAELoadError, match="calibration needs finite activations"):
        PCABaseline(bad, name="pca", hook=HOOK, k=1)


class TestPermutedDecoder:
    @pytest.fixture
    def inner(self, activations: Tensor) -> PCABaseline:
        return PCABaseline(activations, name="pca", hook=HOOK, k=8)

    def test_encoder_is_untouched_and_every_row_moves(self, inner: PCABaseline, activations: Tensor) -> None:
        sae = PermutedDecoderBaseline(inner, name="p", seed=0)
        assert torch.equal(sae.encode(activations), inner.encode(activations))
        assert torch.equal(sae.encoder_directions(), inner.encoder_directions())
        ours, theirs = sae.decoder_directions(), inner.decoder_directions()
        assert not bool((ours == theirs).all(-1).any())
        assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))

    def test_decode_uses_the_permuted_rows(self, inner: PCABaseline, activations: Tensor) -> None:
        sae = PermutedDecoderBaseline(inner, name="p", seed=0)
        z = sae.encode(activations)
        assert_close(sae.decode(z), z @ sae.decoder_directions() + inner.mean)
        assert fvu(activations, sae.decode(z)) > 1 > fvu(activations, inner.decode(z))

    def test_is_a_control_with_a_fingerprint_of_its_own(self, inner: PCABaseline) -> None:
        sae, other = (PermutedDecoderBaseline(inner, name="p", seed=seed) for seed in (0, 1))
        assert sae.control
        assert sae.architecture == "permuted-decoder"
        assert len({inner.fingerprint(), sae.fingerprint(), other.fingerprint()}) == 3
        assert sae.to("cpu") is sae
