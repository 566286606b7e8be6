"""The subspaces of latents, and the penalty for writing outside of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saebench.errors import HookMismatchError, NotApplicableError, UsageError
from saebench.interventions.subspaces import Subspaces, shrinkage
from saebench.interventions.weights import OutputWeight
from tests.interventions.conftest import sae_of
from tests.interventions.finetuning import orthonormal


def basis(found: Tensor | None) -> Tensor:
    assert found is not None
    return found


def projector(span: Tensor) -> Tensor:
    return span @ span.T


def test_they_are_what_qr_of_the_decoder_rows_spans():
    sae = sae_of("topk")
    found = Subspaces.of_latents(sae, [3, 1, 7], [4, 5])
    for span, latents in ((basis(found.relevant), [3, 1, 7]), (basis(found.irrelevant), [4, 5])):
        q = torch.linalg.qr(sae.decoder_directions()[latents].T.double()).Q
        torch.testing.assert_close(span.T @ span, torch.eye(len(latents), dtype=torch.float64))
        torch.testing.assert_close(projector(span), projector(q), rtol=0, atol=1e-6)


def test_a_latent_given_twice_adds_no_dimension():
    twice, once = (basis(Subspaces.of_latents(sae_of("topk"), given, [4]).relevant) for given in ([3, 1, 3], [3, 1]))
    assert twice.shape == once.shape
    torch.testing.assert_close(projector(twice), projector(once))


def test_their_description_names_sae_latents_and_ranks():
    sae = sae_of("topk")
    assert Subspaces.of_latents(sae, [3, 1], [4]).describe() == {
        "sae": sae.fingerprint(),
        "relevant": [3, 1],
        "irrelevant": [4],
        "ranks": [2, 1],
    }


def test_random_ones_have_the_ranks_asked_for_and_follow_the_generator():
    drawn = [Subspaces.random(16, 3, 5, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    first, again, other = (basis(each.relevant) for each in drawn)
    assert (first.shape, basis(drawn[0].irrelevant).shape) == ((16, 3), (16, 5))
    torch.testing.assert_close(first.T @ first, torch.eye(3, dtype=torch.float64))
    assert torch.equal(first, again)
    assert not torch.allclose(projector(first), projector(other))


@pytest.mark.parametrize("rank", [0, 17])
def test_random_ones_of_an_impossible_rank_are_refused(rank: int):
    with pytest.raises(UsageError, match=f"rank of 1 to 16, not {rank}"):
        Subspaces.random(16, rank, 5, np.random.default_rng(0))


@pytest.mark.parametrize(("latents", "why"), [([], "has no latent"), ([32], "no latent 32"), ([-1], "no latent -1")])
def test_latents_that_span_nothing_are_named(latents: list[int], why: str):
    with pytest.raises(UsageError, match=why):
        Subspaces.of_latents(sae_of("topk"), [1], latents)


def test_decoder_rows_of_0_span_nothing(monkeypatch: pytest.MonkeyPatch):
    sae = sae_of("topk")
    monkeypatch.setattr(sae, "decoder_directions", lambda: torch.zeros(32, 16))
    with pytest.raises(UsageError, match="are all 0"):
        Subspaces.of_latents(sae, [1], [2])


def test_a_decoder_without_rows_is_not_applicable():
    with pytest.raises(NotApplicableError):
        Subspaces.of_latents(sae_of("standard-layer_norm"), [1], [2])


def test_another_width_than_the_residual_stream_is_named():
    subspaces = Subspaces(None, orthonormal(2, d=16))
    subspaces.check(16)
    with pytest.raises(HookMismatchError, match="16 dimensions, but the residual stream has 32"):
        subspaces.check(32)


def _output(gain: Tensor) -> OutputWeight:
    return OutputWeight(nn.Parameter(torch.zeros(8, 3)), False, gain)


@pytest.mark.parametrize("gain", [torch.ones(8), torch.tensor([1.0, 2.0, 0.0, -1.0, 0.5, 3.0, 1.0, 1.0])])
@pytest.mark.parametrize("amount", [0.0, 0.7, 100.0])
def test_the_shrunk_change_minimises_distance_and_penalty(gain: Tensor, amount: float):
    span, change = orthonormal(2, d=8), torch.randn(8, 3, generator=torch.Generator().manual_seed(1)).double()
    shrunk = (shrinkage(span, _output(gain), amount) @ change).requires_grad_(True)
    written = gain[:, None].double() * shrunk
    penalty = (written - span @ (span.T @ written)).square().sum() / gain.double().square().mean()
    ((shrunk - change).square().sum() + amount * penalty).backward()
    assert shrunk.grad is not None
    assert float(shrunk.grad.abs().max()) < 1e-10


def test_without_a_norm_it_divides_the_part_outside_the_span():
    span, change = orthonormal(2, d=8), torch.randn(8, 3, generator=torch.Generator().manual_seed(1)).double()
    inside = span @ (span.T @ change)
    found = shrinkage(span, _output(torch.ones(8)), 3.0) @ change
    torch.testing.assert_close(found, inside + (change - inside) / 4)
