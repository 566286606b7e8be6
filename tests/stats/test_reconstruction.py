"""Reconstruction metrics against closed forms, numpy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import explained_variance_score, r2_score
from torch import Tensor

from saebench.stats.reconstruction import Centre, ReconstructionSums

METRICS = ["fvu", "fvu_standardised", "explained_variance", "mse", "cosine", "l2_ratio", "reconstruction_bias"]


def measure(
    x: Tensor, xhat: Tensor, n_sequences: int = 4, batch: int = 17, order: Tensor | None = None
) -> dict[str, float]:
    """Every metric, through several batches whose tokens belong to intermixed sequences."""
    sums = ReconstructionSums(n_sequences, Centre.of(x))
    sequence = torch.arange(len(x)) % n_sequences
    for rows in (torch.arange(len(x)) if order is None else order).split(batch):
        sums.add(x[rows], xhat[rows], sequence[rows])
    return {name: float(num.sum() / den.sum()) for name, (num, den) in sums.ratios().items()}


def activations(n: int = 200, d: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-1, 2, d, dtype=torch.float64)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) * spread + 3 * spread
    xhat = x + 0.3 * spread * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x.to(dtype), xhat.to(dtype)


def by_numpy(x: Tensor, xhat: Tensor) -> dict[str, float]:
    a, b = x.double().numpy(), xhat.double().numpy()
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    fvu = ((a - b) ** 2).sum() / ((a - a.mean(0)) ** 2).sum()
    varies = a.std(0) > 0
    return {
        "fvu": fvu,
        "explained_variance": 1 - fvu,
        "fvu_standardised": (((a - b)[:, varies] / a.std(0)[varies]) ** 2).sum() / (len(a) * varies.sum()),
        "mse": ((a - b) ** 2).sum(1).mean(),
        "cosine": ((a * b).sum(1) / norms[0] / norms[1]).mean(),
        "l2_ratio": (norms[1] / norms[0]).mean(),
        "reconstruction_bias": (b**2).sum() / (a * b).sum(),
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_against_numpy(dtype: torch.dtype):
    """In float64 from the values as they are stored, so the dtype costs nothing."""
    x, xhat = activations(dtype=dtype)
    assert set(measure(x, xhat)) == set(METRICS)
    assert measure(x, xhat) == pytest.approx(by_numpy(x, xhat), rel=1e-12)


def test_against_sklearn():
    """With weights by variance, R2 is the explained variance; its per-dimension mean the standardised one."""
    x, xhat = activations()
    ours = measure(x, xhat)
    assert ours["explained_variance"] == pytest.approx(r2_score(x, xhat, multioutput="variance_weighted"), rel=1e-12)
    assert 1 - ours["fvu_standardised"] == pytest.approx(r2_score(x, xhat, multioutput="uniform_average"), rel=1e-12)
    # An offset counts as error here, which sklearn's explained_variance_score forgives.
    shifted = measure(x, xhat + 50)
    assert shifted["explained_variance"] == pytest.approx(r2_score(x, xhat + 50, multioutput="variance_weighted"))
    assert shifted["explained_variance"] < explained_variance_score(x, xhat + 50, multioutput="variance_weighted") - 0.1


def test_perfect_reconstruction():
    x, _ = activations()
    assert measure(x, x.clone()) == pytest.approx(
        {
            "fvu": 0.0,
            "fvu_standardised": 0.0,
            "explained_variance": 1.0,
            "mse": 0.0,
            "cosine": 1.0,
            "l2_ratio": 1.0,
            "reconstruction_bias": 1.0,
        },
        rel=1e-12,
        abs=0.0,
    )


def test_the_mean_explains_nothing():
    x, _ = activations(dtype=torch.float32)
    ours = measure(x, x.double().mean(0).expand(len(x), -1))
    assert ours["fvu"] == pytest.approx(1.0, rel=1e-12)
    assert ours["fvu_standardised"] == pytest.approx(1.0, rel=1e-12)
    assert ours["explained_variance"] == pytest.approx(0.0, abs=1e-12)


def test_by_hand():
    x = torch.tensor([[3.0, 4.0], [0.0, -2.0], [-3.0, -2.0]])  # mean 0; variances 6 and 8
    xhat = torch.tensor([[3.0, 0.0], [2.0, 0.0], [-3.0, -2.0]])
    ours = measure(x, xhat, n_sequences=2)
    assert ours["fvu"] == pytest.approx((16 + 8) / (18 + 24))
    assert ours["fvu_standardised"] == pytest.approx((4 / 6 + (16 + 4) / 8) / 6)
    assert ours["mse"] == pytest.approx(24 / 3)
    assert ours["cosine"] == pytest.approx((9 / 15 + 0 + 1) / 3)
    assert ours["l2_ratio"] == pytest.approx((3 / 5 + 1 + 1) / 3)
    assert ours["reconstruction_bias"] == pytest.approx((9 + 4 + 13) / (9 + 0 + 13))


def test_shrinkage_by_half():
    x, _ = activations()
    ours = measure(x, x / 2)
    assert ours["l2_ratio"] == pytest.approx(0.5)
    assert ours["reconstruction_bias"] == pytest.approx(0.5)
    assert ours["cosine"] == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_mean_and_small_variance(dtype: torch.dtype):
    """Gemma's residual stream: mean 6,000, spread 10. Single-pass variance in float32 loses it."""
    generator = torch.Generator().manual_seed(0)
    x = (6000 + 10 * torch.randn(20_000, 4, generator=generator)).to(dtype)
    xhat = x + torch.randn(20_000, 4, generator=generator).to(dtype)
    a, b = x.double().numpy(), xhat.double().numpy()
    ours = measure(x, xhat, batch=999)
    assert ours["explained_variance"] == pytest.approx(r2_score(a, b, multioutput="variance_weighted"), rel=1e-9)
    assert ours == pytest.approx(by_numpy(x, xhat), rel=1e-9)
    assert ours["fvu"] == pytest.approx(0.01, rel=0.03)
    centre = Centre.of(x)
    np.testing.assert_allclose(centre.mean, a.mean(0), rtol=1e-14)
    np.testing.assert_allclose(centre.variance, a.var(0), rtol=1e-10)


@pytest.mark.parametrize("factor", [1e-12, 0.125, -3.0, 1e12])
def test_scale_invariance(factor: float):
    x, xhat = activations()
    before, after = measure(x, xhat), measure(factor * x, factor * xhat)
    for name in set(METRICS) - {"mse"}:
        assert after[name] == pytest.approx(before[name], rel=1e-9), name
    assert after["mse"] == pytest.approx(factor**2 * before["mse"], rel=1e-9)


def test_shift_invariance():
    x, xhat = activations()
    shift = torch.linspace(-50, 80, x.shape[1], dtype=torch.float64)
    before, after = measure(x, xhat), measure(x + shift, xhat + shift)
    for name in ("fvu", "fvu_standardised", "explained_variance", "mse"):
        assert after[name] == pytest.approx(before[name], rel=1e-9), name
    assert after["l2_ratio"] != pytest.approx(before["l2_ratio"], rel=1e-3)


def test_the_standardised_fvu_does_not_see_the_unit_of_a_dimension():
    x, xhat = activations()
    units = torch.tensor([1.0, 1e-6, 1e6, 3.0, 1e3, 1e-2], dtype=torch.float64)
    before, after = measure(x, xhat), measure(x * units, xhat * units)
    assert after["fvu_standardised"] == pytest.approx(before["fvu_standardised"], rel=1e-9)
    assert after["fvu"] != pytest.approx(before["fvu"], rel=1e-3)


def test_one_giant_dimension_hides_the_others_only_in_the_plain_fvu():
    x, _ = activations(d=10)
    x[:, 0] *= 1e6
    xhat = x.mean(0).expand_as(x).clone()
    xhat[:, 0] = x[:, 0]  # only the giant one is reconstructed
    ours = measure(x, xhat)
    assert ours["fvu"] < 1e-4
    assert ours["fvu_standardised"] == pytest.approx(0.9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 0.1, -6000.7, 1e-20])
def test_a_constant_dimension_is_left_out_of_the_standardised_fvu(dtype: torch.dtype, value: float):
    x, xhat = (part.to(dtype) for part in activations(n=997))
    expected = measure(x, xhat)["fvu_standardised"]
    constant = torch.full((997, 1), value, dtype=dtype)
    with_constant = measure(torch.cat([x, constant], 1), torch.cat([xhat, constant + 1], 1))
    assert with_constant["fvu_standardised"] == pytest.approx(expected, rel=1e-12)


def test_zero_vectors():
    """No direction: cosine 0. No length: no ratio to it, so the token is left out of the L2 ratio."""
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 5.0]])
    xhat = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 10.0]])
    ours = measure(x, xhat, n_sequences=2)
    assert ours["cosine"] == pytest.approx((0 + 0 + 1) / 3)
    assert ours["l2_ratio"] == pytest.approx((0 + 2) / 2)
    assert all(np.isfinite(value) for value in ours.values())


def test_nothing_but_zeros_is_not_scored():
    ours = measure(torch.zeros(8, 3), torch.zeros(8, 3))
    assert ours["mse"] == 0.0
    assert ours["cosine"] == 0.0
    for name in ("fvu", "fvu_standardised", "explained_variance", "l2_ratio", "reconstruction_bias"):
        assert np.isnan(ours[name]), name


def test_sums_are_kept_per_sequence():
    x, xhat = activations(n=90)
    sequence = torch.arange(90) // 30
    sums = ReconstructionSums(4, Centre.of(x))  # the last sequence has no tokens
    sums.add(x, xhat, sequence)
    for name, (num, den) in sums.ratios().items():
        assert num.shape == den.shape == (4,)
        assert num[3] == den[3] == 0.0, name
    mse, tokens = sums.ratios()["mse"]
    assert tokens.tolist() == [30.0, 30.0, 30.0, 0.0]
    np.testing.assert_allclose(mse[1], ((x - xhat)[30:60] ** 2).sum(), rtol=1e-12)
    spread = ((x - x.mean(0))[60:] ** 2).sum()  # around the mean of all tokens, not of the sequence's
    np.testing.assert_allclose(sums.ratios()["fvu"][1][2], spread, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 8191, 8192, 8193, 20_000])
def test_centre_over_chunks(n: int):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0)) * 5 - 2
    np.testing.assert_allclose(Centre.of(x).mean, x.double().numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(Centre.of(x).variance, x.double().numpy().var(0), rtol=1e-12, atol=1e-300)


@given(seed=st.integers(0, 500), batch=st.integers(1, 60), n_sequences=st.integers(1, 9))
def test_any_batching_and_order(seed: int, batch: int, n_sequences: int):
    x, xhat = activations(n=50, seed=seed, dtype=torch.float32)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(50))
    assert measure(x, xhat, n_sequences, batch, order) == pytest.approx(measure(x, xhat, 1, 1000), rel=1e-12)


wild = st.floats(-(2.0**50), 2.0**50, width=32)


@given(hnp.arrays(np.float32, st.tuples(st.just(2), st.integers(2, 8), st.integers(1, 4)), elements=wild))
def test_wild_inputs(values: np.ndarray):
    x, xhat = torch.from_numpy(values)
    ours = measure(x, xhat, 2, 3)
    for name in METRICS:
        assert not np.isinf(ours[name]) or name in (
            "fvu",
            "explained_variance",
            "fvu_standardised",
            "reconstruction_bias",
        )
    assert np.isnan(ours["fvu"]) or ours["fvu"] >= 0
    assert ours["mse"] >= 0
    assert -1 - 1e-12 <= ours["cosine"] <= 1 + 1e-12
    assert np.isnan(ours["l2_ratio"]) or ours["l2_ratio"] >= 0
    if np.isfinite(ours["fvu"]):
        assert ours["explained_variance"] == pytest.approx(1 - ours["fvu"], rel=1e-9, abs=1e-9)
        with np.errstate(all="ignore"):
            assert ours["fvu"] == pytest.approx(by_numpy(x, xhat)["fvu"], rel=1e-9)
