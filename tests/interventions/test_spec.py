"""Interventions by name."""

from __future__ import annotations

import pytest
import torch

from saebench.errors import NotApplicableError, UsageError
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import Clamp, RefusalClamp, zero
from saebench.interventions.compose import Composed
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.latents import Latents
from saebench.interventions.spec import parse_intervention
from saebench.interventions.splice import Splice
from saebench.interventions.steer import Steer
from saebench.interventions.suppress import RangeMask, Scale
from saebench.interventions.vectors import DirectionalAblation
from tests.interventions.conftest import activations, sae_of

SAE = sae_of("topk")


def some(error: str = "kept") -> Latents:
    return Latents(SAE, [1, 2], error=error)  # type: ignore[arg-type]


GOOD: dict[str, Intervention] = {
    "none": Composed([], site=SAE.hook.site_out),
    "splice": Splice(SAE),
    "none | splice": Composed([Composed([], site=SAE.hook.site_out), Splice(SAE)]),
    "zero:latents=1,2": zero(some()),
    "zero:latents=": zero(Latents(SAE, [], error="kept")),
    "clamp:latents=1,2;value=-5;error=kept": Clamp(some(), -5.0),
    " clamp: latents = 1/2 ; value = -5/1e1; error=dropped; threshold=0.05;": Clamp(
        some("dropped"), [-5.0, 10.0], threshold=0.05
    ),
    "clamp:latents=1,2;value=3;threshold=none": Clamp(some(), 3.0, threshold=None),
    "clamp:latents=1,2;multiple=-3;reference=0.5,2": Clamp(some(), [-1.5, -6.0]),
    "refusal:latents=1,2;refusal=7;value=-500;threshold=0.05": RefusalClamp(some(), 7, -500.0, threshold=0.05),
    "scale:latents=1,2;factor=0.25": Scale(some(), 0.25),
    "range:latents=1,2;mean=1,2;sd=0.5;tau=3": RangeMask(some(), [1.0, 2.0], 0.5, tau=3.0),
    "steer:latents=1,2;strength=-4": Steer(some(), -4.0),
    "steer:latents=1,2;strength=-4;tier=input;weight=mean;scale=2,3;scope=whole": Steer(
        some(), -4.0, tier="input", weight="mean", scale=[2.0, 3.0], scope="whole"
    ),
    "ablate:latents=1,2": DirectionalAblation.of_latents(some()),
    "dsg:latents=1,2;tau=0.1": DynamicGuardrail(some(), tau=0.1),
    "zero:latents=1,2 | steer:latents=1,2;strength=3": Composed([zero(some()), Steer(some(), 3.0)]),
}


@pytest.mark.parametrize("spec", GOOD)
def test_a_spec_names_an_intervention(spec: str) -> None:
    found = parse_intervention(spec, SAE)
    assert found.describe() == GOOD[spec].describe()
    x, mask = activations(), torch.ones(3, 9, dtype=torch.bool)
    assert torch.equal(found(x, mask), GOOD[spec](x, mask))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "'' does not name an intervention"),
        ("none:latents=1", "'none:latents=1' does not name an intervention"),
        ("splic", "Did you mean 'splice'"),
        ("clmp:latents=1;value=2", "Did you mean 'clamp'"),
        ("clamp", "lacks latents; write .*, for example"),
        ("attenuate:latents=1", "fitted to labelled examples, so it has no text form"),
        ("zero:latents=1 |", "'' does not name an intervention"),
        ("zero:latens=1", "unknown key 'latens'. The known keys are latents, error.* Did you mean 'latents'"),
        ("zero:latents=1;value=2", "unknown key 'value'"),
        ("zero:latents", "has 'latents' instead of KEY=VALUE"),
        ("zero:latents=1;latents=2", "sets latents twice"),
        ("zero:latents=1,x", "latents must be a whole number, not 'x'"),
        ("zero:latents=-1", "latents must be a whole number, not '-1'"),
        ("zero:latents=1,", "latents must be a whole number, not ''"),
        ("zero:latents=99", "0 to 31, but no latent 99"),
        ("zero:latents=1,1", "Latent 1 is named twice"),
        ("zero:latents=1;error=maybe", "error must be one of kept, dropped"),
        ("clamp:latents=1", "needs either a value, or a multiple"),
        ("clamp:latents=1;value=2;multiple=3", "needs either a value, or a multiple"),
        ("clamp:latents=1;multiple=3", "needs either a value, or a multiple"),
        ("clamp:latents=1;value=low", "value must be a number, not 'low'"),
        ("clamp:latents=1;value=nan", "value must be a number, not 'nan'"),
        ("clamp:latents=1,2;value=1,2,3", "value holds 3 numbers for 2 latents"),
        ("refusal:latents=1;value=2", "lacks refusal"),
        ("refusal:latents=1;refusal=1;value=2", "both the refusal latent"),
        ("refusal:latents=1;refusal=2;value=2,3", "value must be a number, not '2,3'"),
        ("range:latents=1", "lacks mean and sd"),
        ("steer:latents=1;strength=2;tier=tokens", "tier must be one of constant, input, token"),
        ("dsg:latents=1;tau=2", "tau is a share"),
        ("ablate:latents=1;error=dropped", "use error=kept"),
    ],
)
def test_a_bad_spec_gets_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_intervention(spec, SAE)


def test_what_the_sae_cannot_do_is_not_applicable() -> None:
    with pytest.raises(NotApplicableError, match="linear_decoder"):
        parse_intervention("steer:latents=1;strength=2", sae_of("standard-layer_norm"))
