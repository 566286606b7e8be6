"""The adversaries compute what they say, keep the contract, and are reached by references."""

from __future__ import annotations

import pytest
import torch

from saebench.errors import SAELoadError, UsageError
from saebench.sae import adversaries
from saebench.sae.base import LoadContext
from saebench.sae.conformance import run_checks
from saebench.sae.protocol import Capability, HookSite
from saebench.sae.reference import load_sae, parse_sae_ref
from tests.runner.conftest import save_topk

D, SITE = 32, "blocks.1.hook_resid_post"
HOOK = HookSite.at(SITE)


def x(n=500, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=draw) @ torch.randn(D, D, generator=draw) + 3


CONTEXT = LoadContext(hook=HOOK, calibration=lambda site: x(), d_in=lambda site: D, seed=1)


@pytest.fixture(scope="module")
def lens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sae")
    save_topk(folder / "sae", 0)
    return f"sae_lens:{folder / 'sae'}"


PLAIN = ["identity", "rotated", "always-on?d_sae=64", "norm", "empty", "memorised?d_sae=100"]
WRAPPED = ["duplicated", "reordered", "rescaled", "amplified", "one-direction"]


@pytest.mark.parametrize("body", PLAIN)
def test_the_contract_of_adversaries(body):
    sae = load_sae(f"adversary:{body}", CONTEXT)
    assert sae.control
    results = run_checks(lambda: load_sae(f"adversary:{body}", CONTEXT), activations=x(40, 5))
    assert [(result.name, result.detail) for result in results if not result.ok] == []
    assert load_sae(f"adversary:{body}", CONTEXT).fingerprint() == sae.fingerprint()


@pytest.mark.parametrize("kind", WRAPPED)
def test_the_contract_of_wrappers(kind, lens):
    sae = load_sae(f"adversary:{kind}({lens})", CONTEXT)
    assert sae.control
    results = run_checks(lambda: load_sae(f"adversary:{kind}({lens})", CONTEXT), activations=x(40, 5))
    assert [(result.name, result.detail) for result in results if not result.ok] == []
    assert sae.fingerprint() != load_sae(lens, CONTEXT).fingerprint()


@pytest.mark.parametrize("kind", ["duplicated", "reordered", "rescaled"])
def test_some_compute_the_same_function(kind, lens):
    inner, sae = load_sae(lens, CONTEXT), load_sae(f"adversary:{kind}({lens})", CONTEXT)
    some = x(50, 7)
    z, own = sae.encode(some), inner.encode(some)
    torch.testing.assert_close(sae.decode(z, some), inner.decode(own, some), rtol=1e-4, atol=1e-4)
    twice = 2 if kind == "duplicated" else 1
    assert (z != 0).sum() == twice * (own != 0).sum()
    if kind == "rescaled":
        fires = own != 0
        assert bool((z[fires] != own[fires]).any())


@pytest.mark.parametrize("body", ["identity", "rotated", "always-on?d_sae=64"])
def test_some_are_exact(body):
    sae, some = load_sae(f"adversary:{body}", CONTEXT), x(50, 7)
    z = sae.encode(some)
    torch.testing.assert_close(sae.decode(z), some, rtol=1e-3, atol=1e-3)
    density = float((z != 0).float().mean())
    assert density == (1.0 if body.startswith("always") else 0.5)


def test_the_norm_is_the_best_line_along_the_norm():
    sae, some = load_sae("adversary:norm", CONTEXT), x()
    norms = some.double().norm(dim=-1)
    design = torch.stack([norms, torch.ones_like(norms)], 1)
    best = design @ torch.linalg.lstsq(design, some.double()).solution
    torch.testing.assert_close(sae.decode(sae.encode(some)).double(), best, rtol=1e-4, atol=1e-4)
    empty = load_sae("adversary:empty", CONTEXT)
    assert not bool(empty.encode(some).any())
    torch.testing.assert_close(empty.decode(empty.encode(some))[0], some.mean(0), rtol=1e-4, atol=1e-4)


def test_a_remembered_token_is_exact_and_alone():
    sae = load_sae("adversary:memorised?d_sae=500", CONTEXT)
    some = x()[:20]
    z = sae.encode(some)
    assert bool(((z != 0).sum(-1) == 1).all())
    torch.testing.assert_close(sae.decode(z), some, rtol=1e-4, atol=1e-4)
    with pytest.raises(SAELoadError, match="501 tokens cannot be remembered of 500"):
        load_sae("adversary:memorised?d_sae=501", CONTEXT)


def test_decoders_that_do_harm(lens):
    inner, some = load_sae(lens, CONTEXT), x(50, 7)
    z = inner.encode(some)
    constant = inner.decode(torch.zeros_like(z[:1]))
    loud = load_sae(f"adversary:amplified({lens})?factor=5", CONTEXT)
    torch.testing.assert_close(loud.decode(z) - constant, 5 * (inner.decode(z) - constant), rtol=1e-3, atol=1e-3)
    line = load_sae(f"adversary:one-direction({lens})", CONTEXT)
    assert torch.linalg.matrix_rank((line.decode(z) - constant).double(), rtol=1e-4) == 1
    torch.testing.assert_close(line.decoder_directions().norm(dim=-1), inner.decoder_directions().norm(dim=-1))


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("adversary:norms", "There is no adversary:norms. Did you mean 'norm'"),
        ("adversary:duplicated", "There is no adversary:duplicated"),
        ("adversary:norm?seed=1", "has no option 'seed'"),
        ("adversary:identity(zoo:topk-k32-s0)", "There is no adversary:identity"),
    ],
)
def test_references_that_are_wrong(ref, message):
    with pytest.raises(UsageError, match=message):
        parse_sae_ref(ref)


def test_what_a_plan_asks():
    fitted, made = parse_sae_ref("adversary:norm"), parse_sae_ref("adversary:rescaled(zoo:topk-k32-s0)")
    assert (fitted.fitted, fitted.derived, fitted.control) == (True, True, "norm")
    assert (made.fitted, made.derived, made.control) == (False, False, "rescaled")
    assert made.site(None) == parse_sae_ref("zoo:topk-k32-s0").site(None)
    assert fitted.site(SITE) == HOOK


def test_no_capability_is_claimed_in_vain():
    norm = adversaries.Norm(x(), name="n", hook=HOOK)
    assert Capability.ENCODER_DIRECTIONS not in norm.capabilities


@pytest.mark.parametrize("ref", ["adversary:always-on?d_sae=64", "adversary:norm", "adversary:empty", "baseline:pca"])
def test_a_text_that_gives_no_activations_is_named_as_the_cause(ref):
    nothing = LoadContext(hook=HOOK, calibration=lambda site: torch.zeros(0, D), d_in=lambda site: D)
    with pytest.raises(SAELoadError, match="knows none of the words of the calibration text"):
        load_sae(ref, nothing)
