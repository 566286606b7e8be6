"""The view of an SAE in units of what its latents write."""

from __future__ import annotations

import pytest
import torch

from saebench.sae.adversaries import rescaled
from saebench.sae.base import sparse_from_dense
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.codes import Coder, dense
from saebench.sae.protocol import Capability, HookSite
from saebench.sae.units import InUnits, in_units
from tests.tasks.conftest import topk_sae

SITE = "blocks.1.hook_resid_post"


def x(n: int = 50, d: int = 16) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_function_stays_and_rows_have_norm_1() -> None:
    sae = topk_sae(SITE)
    seen, inputs = in_units(sae), x(d=sae.d_in)
    assert isinstance(seen, InUnits)
    norms = sae.decoder_directions().norm(dim=-1)
    torch.testing.assert_close(seen.encode(inputs), sae.encode(inputs) * norms)
    torch.testing.assert_close(seen.decode(seen.encode(inputs)), sae.decode(sae.encode(inputs)))
    torch.testing.assert_close(seen.decoder_directions().norm(dim=-1), torch.ones(sae.d_sae))
    assert torch.equal(seen.encoder_directions(), sae.encoder_directions())
    torch.testing.assert_close(dense(seen.encode_sparse(inputs), sae.d_sae), seen.encode(inputs))
    facts = ("name", "architecture", "hook", "d_in", "d_out", "d_sae", "capabilities", "control", "model_name")
    assert [getattr(seen, fact) for fact in facts] == [getattr(sae, fact) for fact in facts]
    assert seen.fingerprint() == sae.fingerprint()
    torch.testing.assert_close(Coder(seen, 10**8).reconstruct(inputs, lambda *_: None), sae.decode(sae.encode(inputs)))


@torch.no_grad()
def test_a_rescaled_copy_looks_the_same() -> None:
    sae = topk_sae(SITE)
    own, copy = in_units(sae), in_units(rescaled(sae, name="copy", seed=0))
    torch.testing.assert_close(copy.encode(x(d=sae.d_in)), own.encode(x(d=sae.d_in)))
    torch.testing.assert_close(copy.decoder_directions(), own.decoder_directions())
    assert torch.equal(copy.encode(x(d=sae.d_in)) != 0, own.encode(x(d=sae.d_in)) != 0)


@torch.no_grad()
def test_signs_stay_and_a_latent_that_writes_nothing_keeps_its_values() -> None:
    neurons = NeuronBaseline(4, name="n", hook=HookSite.at(SITE))
    neurons.ones.copy_(torch.tensor([0.0, -2.0, 1.0, 3.0]))
    seen = in_units(neurons)
    torch.testing.assert_close(seen.encode(x(d=4)), x(d=4) * torch.tensor([1.0, 2.0, 1.0, 3.0]))
    assert Capability.NON_NEGATIVE not in seen.capabilities


def test_what_has_no_unit_or_has_it_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    neurons = NeuronBaseline(4, name="n", hook=HookSite.at(SITE))
    assert in_units(neurons) is neurons
    sae = topk_sae(SITE)
    monkeypatch.setattr(sae, "capabilities", sae.capabilities - {Capability.LINEAR_DECODER})
    assert in_units(sae) is sae


@torch.no_grad()
def test_unused_slots_stay_unused() -> None:
    sae = topk_sae(SITE)
    codes = in_units(sae).encode_sparse(x(d=sae.d_in))
    again = sparse_from_dense(in_units(sae).encode(x(d=sae.d_in)))
    assert torch.equal((codes.values != 0).sum(-1), (again.values != 0).sum(-1))
