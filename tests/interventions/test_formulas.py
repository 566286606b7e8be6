"""Every intervention on every kind of SAE against a dense, naive implementation of its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from saebench.errors import DataError, HookMismatchError, NotApplicableError, SaebenchError, UsageError
from saebench.interventions.clamp import Clamp, RefusalClamp
from saebench.interventions.guardrail import DynamicGuardrail, firing_shares
from saebench.interventions.latents import Latents
from saebench.interventions.steer import Steer
from saebench.interventions.suppress import RangeMask
from saebench.sae.sae_lens_adapter import SAELensAdapter
from tests.interventions.conftest import (
    CASES,
    LINEAR,
    NON_LINEAR,
    Case,
    activations,
    active_latents,
    inputs,
    latents_of,
    sae_of,
    spare_latent,
)


def naive(sae: SAELensAdapter, case: Case, error: str) -> Tensor:
    """x' = decode(f') + (x - decode(f)), or decode(f'), token by token of each text."""
    x, source, mask = inputs(sae)
    columns = active_latents(sae)
    columns += [spare_latent(columns)] if case.spare else []
    before = sae.encode(source.clone())
    after = before.double()
    for row in range(len(x)):
        tokens = mask[row].nonzero()[:, 0]
        f = before[row, tokens][:, columns].double().numpy()
        after[row, tokens[:, None], torch.tensor(columns)] = torch.from_numpy(case.rule(f))
    out = sae.decode(after.float(), source.clone())
    if error == "kept":
        out = out + x - sae.decode(before, source.clone())
    return torch.where(mask[..., None], out, x)


@pytest.mark.parametrize("error", ["kept", "dropped"])
@pytest.mark.parametrize("sae_case", LINEAR + NON_LINEAR)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_formula(name: str, sae_case: str, error: str) -> None:
    sae, case = sae_of(sae_case), CASES[name]
    x, source, mask = inputs(sae)
    refused = (name.startswith("steer") and sae_case in NON_LINEAR) or (name, sae_case) == (
        "steer-input-max",
        "abstopk",
    )
    if refused:
        with pytest.raises(NotApplicableError):
            case.build(latents_of(sae_case, error))
        return
    intervention = case.build(latents_of(sae_case, error))
    ours = intervention(x.clone(), mask, source)
    expected = naive(sae, case, error)
    assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(ours[~mask], x[~mask])
    if name != "clamp-conditional-high":  # few latents of some SAEs get there
        assert not torch.allclose(ours[mask], x[mask], atol=1e-2)


@pytest.mark.parametrize("sae_case", ["topk", "standard-layer_norm", "temporal", "temporal-layer_norm"])
@pytest.mark.parametrize("error", ["kept", "dropped"])
def test_small_blocks_change_nothing(sae_case: str, error: str) -> None:
    sae = sae_of(sae_case)
    x, _, mask = inputs(sae)
    small = Latents(sae, active_latents(sae), error=error, budget=1)  # type: ignore[arg-type]
    assert_close(Clamp(small, -5.0)(x, mask), Clamp(latents_of(sae_case, error), -5.0)(x, mask))


def test_dropping_the_error_is_the_reconstruction_plus_the_same_change() -> None:
    sae = sae_of("topk")
    x, _, mask = inputs(sae)
    kept, dropped = (Clamp(latents_of("topk", error), -5.0)(x, mask) for error in ("kept", "dropped"))
    error = x - sae.decode(sae.encode(x))
    assert_close((kept - dropped)[mask], error[mask], rtol=1e-4, atol=1e-4)


def test_a_reading_serves_a_sweep() -> None:
    latents = latents_of("topk")
    x, _, mask = inputs(latents.sae)  # type: ignore[arg-type]
    reading = Clamp(latents, 0.0).read(x, mask)
    for value in (-1.0, -30.0):
        clamp = Clamp(latents, value)
        assert torch.equal(clamp.rewrite(reading), clamp(x, mask))


def test_clamp_to_a_multiple_of_a_reference() -> None:
    latents = latents_of("topk")
    assert Clamp.multiple(latents, -3.0, [1.0, 2.0, 3.0, 4.0]).value == [-3.0, -6.0, -9.0, -12.0]
    with pytest.raises(NotApplicableError, match="signed"):
        Clamp.multiple(latents_of("abstopk"), -3.0, 1.0)


def test_a_range_mask_is_fitted_to_the_concept() -> None:
    f = torch.tensor([[0.0, 1.0, 5.0, 1.0], [2.0, 1.0, 7.0, 2.0]])
    mask = RangeMask.fit(latents_of("topk"), f, tau=1.0)
    assert mask.mean == [1.0, 1.0, 6.0, 1.5]
    assert mask.sd == [1.0, 0.0, 1.0, 0.5]
    with pytest.raises(DataError, match="at least one"):
        RangeMask.fit(latents_of("topk"), f[:0])


def test_firing_shares_are_those_that_the_whole_gate_sees() -> None:
    latents = latents_of("topk", n=1)
    x, _, mask = inputs(latents.sae)  # type: ignore[arg-type]
    f = latents.sae.encode(x)[mask][:, latents.indices]
    shares = firing_shares(f, mask)
    for row in range(len(x)):
        fired = latents.sae.encode(x)[row, mask[row]][:, latents.indices[0]] != 0
        assert shares[row] == fired.double().mean()
    tau = float(shares.sort().values[1])  # texts with exactly this share stay
    changed = DynamicGuardrail(latents, tau=tau, scope="whole")(x, mask)
    touched = (changed != x).any(-1).any(-1)
    assert touched.tolist() == (shares > tau).tolist()
    assert bool(touched.any())


def test_a_transcoder_needs_what_it_reads() -> None:
    latents = latents_of("transcoder")
    x, source, mask = inputs(latents.sae)  # type: ignore[arg-type]
    clamp, steer = Clamp(latents, -5.0), Steer(latents, -5.0)
    assert (clamp.reads, clamp.site) == (latents.sae.hook.site_in, latents.sae.hook.site_out)
    with pytest.raises(NotApplicableError, match="needed, too"):
        clamp(x, mask)
    assert clamp(x, mask, source).shape == x.shape
    assert steer.reads == steer.site  # constant steering looks at nothing
    assert torch.equal(steer(x, mask), steer(x, mask, source))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Latents(sae_of("topk"), [1, 32], error="kept"), UsageError, "0 to 31, but no latent 32"),
        (lambda: Latents(sae_of("topk"), [1, -1], error="kept"), UsageError, "no latent -1"),
        (lambda: Latents(sae_of("topk"), [4, 1, 4], error="kept"), UsageError, "Latent 4 is named twice"),
        (lambda: Latents(sae_of("topk"), [1], error="keep"), UsageError, "kept, dropped, not 'keep'"),  # type: ignore
        (lambda: Clamp(latents_of("topk"), float("nan")), UsageError, "value must be a finite number"),
        (lambda: Clamp(latents_of("topk"), [1.0, 2.0]), UsageError, "2 numbers for 4 latents"),
        (lambda: Clamp(latents_of("topk"), 1.0, threshold=-1), UsageError, "threshold must be at least 0"),
        (lambda: RefusalClamp(latents_of("topk"), active_latents(sae_of("topk"))[0], 1.0), UsageError, "both"),
        (lambda: DynamicGuardrail(latents_of("topk"), tau=95), UsageError, "share of tokens between 0 and 1"),
        (lambda: DynamicGuardrail(latents_of("topk"), tau=0.5, scope="all"), UsageError, "scope must be one of"),  # type: ignore
        (lambda: Steer(latents_of("topk"), 1.0, tier="sometimes"), UsageError, "tier must be one of"),  # type: ignore
        (lambda: Steer(latents_of("topk"), 1.0, weight="mean"), UsageError, "needs tier=input or tier=token"),
        (lambda: Steer(latents_of("topk"), 1.0, tier="token", scope="whole"), UsageError, "needs tier=input"),
        (lambda: RangeMask(latents_of("topk"), 1.0, -1.0), UsageError, "must be at least 0"),
    ],
)
def test_bad_settings_get_a_sentence(make, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        make()


def test_activations_that_do_not_fit_get_a_sentence() -> None:
    clamp = Clamp(latents_of("topk"), 0.0)
    x, _, mask = inputs(sae_of("topk"))
    with pytest.raises(HookMismatchError, match=r"\[batch, position, 16\]"):
        clamp(activations(12), mask)
    with pytest.raises(HookMismatchError, match="was given"):
        clamp(x[0], mask[0])
    with pytest.raises(SaebenchError, match="mask of bool"):
        clamp(x, mask.float())
    with pytest.raises(SaebenchError, match="mask of bool"):
        clamp(x, mask[:, :-1])


def test_the_reference_rules_are_not_all_the_same() -> None:
    f = np.array([[0.0, 1.0, 0.0, 4.5, 2.0], [1.5, 0.04, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    results = {name: case.rule(f[:, : 4 + case.spare]).tobytes() for name, case in CASES.items()}
    assert len(set(results.values())) == len(CASES)
