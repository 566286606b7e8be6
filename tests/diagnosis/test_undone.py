"""Each change undoes the mistake that it is made for: it gives back what a known SAE does, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from saebench.diagnosis import undone
from saebench.diagnosis.parts import Parts
from saebench.sae.affine.activations import AbsTopK, JumpReLU, ReLU, TopK
from saebench.sae.affine.weights import Weights

D_IN, D_SAE = 6, 15
DRAW = torch.Generator().manual_seed(0)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=DRAW)


ROWS = torch.nn.functional.normalize(random(D_SAE, D_IN))
WEIGHTS = Weights(W_enc=random(D_IN, D_SAE), b_enc=random(D_SAE), W_dec=ROWS, b_dec=random(D_IN))
X = 3 * random(50, D_IN) + 2
RIGHT = {
    "topk": Parts(WEIGHTS, TopK(4)),
    "abstopk": Parts(WEIGHTS, AbsTopK(4)),
    "jumprelu": Parts(WEIGHTS, JumpReLU(random(D_SAE).abs())),
    "relu": Parts(WEIGHTS, ReLU()),
}
SIZES = random(D_SAE).exp()


def does(parts: Parts) -> Tensor:
    return undone.as_loaded(parts.sae())(X)[1]


def same(reconstruct: undone.Reconstruct | Parts | None, right: Parts) -> None:
    assert reconstruct is not None
    xhat = does(reconstruct) if isinstance(reconstruct, Parts) else reconstruct(X)[1]
    torch.testing.assert_close(xhat, does(right), rtol=1e-4, atol=1e-4)


@pytest.fixture(params=list(RIGHT))
def right(request: pytest.FixtureRequest) -> Parts:
    """An SAE with each activation function in turn."""
    return RIGHT[request.param]


@pytest.mark.parametrize("factor", [0.05, 7.0])
def test_scale(right: Parts, factor: float) -> None:
    trained = replace(right, weights=right.weights.scaled(1 / factor))
    same(undone.scaled(undone.as_loaded(trained.sae()), factor), right)


def test_scale_of_a_transcoder(right: Parts) -> None:
    trained = replace(right, weights=right.weights.scaled(1 / 3, 1 / 7))
    same(undone.scaled(undone.as_loaded(trained.sae()), 3, 7), right)


def test_scale_of_the_reconstruction(right: Parts) -> None:
    weights = right.weights
    wrong = right.with_weights(W_dec=5 * weights.W_dec, b_dec=5 * weights.b_dec)
    same(undone.rescaled(undone.as_loaded(wrong.sae()), 0.2), right)


@pytest.mark.parametrize("change", [undone.layer_normed, undone.of_constant_norm])
def test_normalisation(right: Parts, change: Callable[[undone.Reconstruct], undone.Reconstruct]) -> None:
    """The SAE sees tokens of one size, and a perfect one gives back its input."""
    seen: list[Tensor] = []

    def perfect(x: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return x, x

    torch.testing.assert_close(change(perfect)(X)[1], X, rtol=1e-4, atol=1e-4)
    sizes = seen[0].norm(dim=-1)
    torch.testing.assert_close(sizes, sizes[0].expand(len(X)), rtol=1e-4, atol=0)


def test_centring(right: Parts) -> None:
    seen: list[Tensor] = []

    def perfect(x: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return x, x

    torch.testing.assert_close(undone.centred(perfect)(X)[1], X)
    assert float(seen[0].mean(-1).abs().max()) < 1e-5


def test_pre_bias(right: Parts) -> None:
    with_bias = undone.pre_bias_subtracted(right)
    assert with_bias is not None
    same(undone.pre_bias_left_out(with_bias), right)
    # The change of the input gives the same as that of the settings.
    same(undone.shifted(undone.as_loaded(right.sae()), right.weights.b_dec), with_bias)
    assert undone.pre_bias_left_out(right) is None
    assert undone.pre_bias_subtracted(with_bias) is None


def stretched(parts: Parts) -> Parts:
    """The same SAE for an activation function in units of p ||W_dec||, with rows of other norms."""
    weights = parts.weights
    return parts.with_weights(
        W_dec=weights.W_dec * SIZES[:, None], W_enc=weights.W_enc / SIZES, b_enc=weights.b_enc / SIZES
    )


@pytest.mark.parametrize("kind", ["topk", "abstopk", "jumprelu"])
def test_units_of_the_decoder_norm(kind: str) -> None:
    right = RIGHT[kind]
    wrong = stretched(right)
    assert float((does(wrong) - does(right)).abs().max()) > 0.1
    in_units = undone.in_norm_units(wrong)
    same(in_units, right)
    assert in_units is not None
    same(undone.in_raw_units(in_units), wrong)
    assert undone.in_norm_units(in_units) is None
    assert undone.in_norm_units(right) is undone.in_raw_units(right) is None  # its rows are unit vectors


def test_relu_knows_no_units() -> None:
    assert undone.in_norm_units(stretched(RIGHT["relu"])) is None


def test_unit_rows(right: Parts) -> None:
    wrong = right.with_weights(W_dec=right.weights.W_dec * SIZES[:, None])
    same(undone.unit_rows(wrong), right)
    assert undone.unit_rows(right) is None


def misread(matrix: Tensor) -> Tensor:
    """What comes of reading the transpose of a matrix as if it were the matrix."""
    return matrix.T.contiguous().reshape(matrix.shape)


@pytest.mark.parametrize("d_sae", [D_IN, D_SAE])
def test_transposes(d_sae: int) -> None:
    weights = replace(WEIGHTS, W_enc=random(D_IN, d_sae), b_enc=random(d_sae), W_dec=random(d_sae, D_IN))
    right = Parts(weights, ReLU())
    encoder, decoder = misread(weights.W_enc), misread(weights.W_dec)
    same(undone.encoder_transposed(right.with_weights(W_enc=encoder)), right)
    same(undone.decoder_transposed(right.with_weights(W_dec=decoder)), right)
    same(undone.both_transposed(right.with_weights(W_enc=encoder, W_dec=decoder)), right)


def test_a_square_matrix_is_transposed() -> None:
    square = Parts(replace(WEIGHTS, W_enc=random(D_IN, D_IN), b_enc=random(D_IN), W_dec=random(D_IN, D_IN)), ReLU())
    assert torch.equal(undone.encoder_transposed(square).weights.W_enc, square.weights.W_enc.T)
    assert torch.equal(undone.decoder_transposed(square).weights.W_dec, square.weights.W_dec.T)


def test_tied_weights() -> None:
    tied = Parts(replace(WEIGHTS, W_enc=WEIGHTS.W_dec.T), TopK(4))
    same(undone.tied_encoder(tied.with_weights(W_enc=random(D_IN, D_SAE))), tied)
    same(undone.tied_decoder(tied.with_weights(W_dec=random(D_SAE, D_IN))), tied)
    assert undone.tied_encoder(tied) is undone.tied_decoder(tied) is None


def test_k() -> None:
    same(undone.with_k(replace(RIGHT["topk"], activation=TopK(9)), 4), RIGHT["topk"])
    same(undone.with_k(replace(RIGHT["topk"], activation=ReLU()), 4), RIGHT["topk"])
    same(undone.with_k(replace(RIGHT["abstopk"], activation=AbsTopK(1)), 4), RIGHT["abstopk"])
    assert undone.with_k(RIGHT["topk"], 4) is undone.with_k(RIGHT["topk"], D_SAE + 1) is None


def test_no_selection() -> None:
    same(undone.without_selection(RIGHT["topk"]), RIGHT["relu"])
    assert undone.without_selection(RIGHT["relu"]) is None


@pytest.mark.parametrize("l0", [0.5, 2.0, 4.25])
def test_threshold_for_an_l0(l0: float) -> None:
    threshold = undone.threshold_for(RIGHT["relu"], X, l0)
    assert threshold is not None
    z, _ = undone.as_loaded(undone.with_threshold(RIGHT["relu"], threshold).sae())(X)
    assert float((z > 0).sum(-1).float().mean()) == pytest.approx(l0, abs=2 / len(X))


def test_no_threshold_gives_more_than_all_positive_latents() -> None:
    assert undone.threshold_for(RIGHT["relu"], X, D_SAE - 0.1) is None
    assert undone.threshold_for(RIGHT["relu"], X, 10 * D_SAE) is None
