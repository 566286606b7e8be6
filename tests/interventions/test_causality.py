"""Generation sees what scoring sees: a text in pieces gives what the text at once gives, unless declared otherwise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from saebench.errors import SaebenchError, UsageError
from saebench.interventions.base import Intervention, on_texts
from saebench.interventions.clamp import zero
from saebench.interventions.compose import Composed
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.memory import Running
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.steer import Steer
from saebench.interventions.vectors import AddVector, DirectionalAblation
from tests.interventions.conftest import (
    CASES,
    CAUSAL,
    LENGTH,
    WHOLE,
    a_mask,
    activations,
    inputs,
    latents_of,
    sae_of,
)

SITE = sae_of("topk").hook.site_out
DSG, STEER = CASES["dsg"].build, CASES["steer-input-mean"].build

CONTINUING: dict[str, Callable[[], Intervention]] = {
    **{name: (lambda name=name: CASES[name].build(latents_of("topk"))) for name in CAUSAL},  # type: ignore[misc]
    **{f"{name}-dropped": (lambda name=name: CASES[name].build(latents_of("topk", "dropped"))) for name in CAUSAL},  # type: ignore[misc]
    "ablate": lambda: DirectionalAblation.of_latents(latents_of("topk")),
    "add": lambda: AddVector(SITE, torch.arange(16.0), 0.5, restore_norm=True),
    "noise": lambda: EqualNormNoise(DSG(latents_of("topk")), seed=3),
    "composed": lambda: Composed([STEER(latents_of("topk")), DSG(latents_of("topk", "dropped"))]),
}

splits = st.sets(st.integers(1, LENGTH - 1)).map(lambda cuts: [0, *sorted(cuts), LENGTH])


def in_pieces(intervention: Intervention, x: Tensor, mask: Tensor, cuts: list[int]) -> Tensor:
    intervention.reset()
    pieces = [slice(*each) for each in pairwise(cuts)]
    return torch.cat([intervention(x[:, piece], mask[:, piece]) for piece in pieces], dim=1)


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(CONTINUING)), cuts=splits, seed=st.integers(0, 2**32 - 1))
def test_a_text_in_pieces_gives_what_it_gives_at_once(name: str, cuts: list[int], seed: int) -> None:
    x, mask = activations(seed=seed), a_mask(seed)
    intervention = CONTINUING[name]()
    assert intervention.causal
    assert_close(in_pieces(intervention, x, mask, cuts), on_texts(intervention, x, mask), rtol=1e-4, atol=1e-4)


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(CONTINUING)), place=st.integers(1, LENGTH - 1), seed=st.integers(0, 2**32 - 1))
def test_a_later_token_never_changes_an_earlier_one(name: str, place: int, seed: int) -> None:
    x, mask = activations(seed=seed), a_mask(seed)
    other, other_mask = x.clone(), mask.clone()
    other[:, place:] = activations(seed=seed ^ 1)[:, place:]
    other_mask[:, place:] = ~mask[:, place:]
    intervention = CONTINUING[name]()
    ours, theirs = on_texts(intervention, x, mask), on_texts(intervention, other, other_mask)
    assert_close(ours[:, :place], theirs[:, :place], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(CONTINUING))
def test_padding_on_the_left_changes_nothing(name: str) -> None:
    x, mask = activations(), a_mask()
    padded = torch.cat([activations(seed=9)[:, :4], x], dim=1)
    padded_mask = torch.cat([torch.zeros(len(x), 4, dtype=torch.bool), mask], dim=1)
    intervention = CONTINUING[name]()
    ours = on_texts(intervention, padded, padded_mask)[:, 4:]
    assert_close(ours, on_texts(intervention, x, mask), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
def test_what_looks_ahead_says_so_and_refuses_to_continue(name: str) -> None:
    x, _, mask = inputs(sae_of("topk"))
    intervention = CASES[name].build(latents_of("topk"))
    at_once = on_texts(intervention, x, mask)
    for each in (intervention, Composed([intervention]), EqualNormNoise(intervention, seed=0)):
        assert not each.causal
        on_texts(each, x[:, :4], mask[:, :4])
        with pytest.raises(UsageError, match="cannot go on with a text token by token"):
            each(x[:, 4:], mask[:, 4:])
    running = CASES[name.removesuffix("-whole")].build(latents_of("topk"))
    assert not torch.allclose(on_texts(running, x, mask), at_once)
    assert torch.equal(on_texts(intervention, x, mask), at_once)  # after reset() it serves the next text


def test_saes_that_read_whole_texts_refuse_to_continue() -> None:
    x, _, mask = inputs(sae_of("temporal"))
    for error, causal in (("kept", True), ("dropped", False)):
        assert Steer(latents_of("temporal", error), 1.0).causal is causal  # constant steering does not encode
    clamp = zero(latents_of("temporal"))
    assert not clamp.causal
    clamp(x[:, :4], mask[:, :4])
    with pytest.raises(UsageError, match="tiny:temporal looks at all of it"):
        clamp(x[:, 4:], mask[:, 4:])


@pytest.mark.parametrize("name", ["dsg", "steer-input", "steer-input-mean", "noise"])
def test_reset_forgets(name: str) -> None:
    intervention = CONTINUING[name]()
    remembered = []
    for seed in range(5):
        x, mask = activations(seed=seed), a_mask(seed)
        first = on_texts(intervention, x, mask)
        remembered.append(not torch.allclose(intervention(x, mask), first))
        assert torch.equal(on_texts(intervention, x, mask), first)
    assert any(remembered)


def test_rows_remember_for_themselves() -> None:
    x, _, mask = inputs(sae_of("topk"))
    guard = DynamicGuardrail(latents_of("topk"), tau=0.7, value=-20)
    together = on_texts(guard, x, mask)
    for row in range(len(x)):
        alone = on_texts(guard, x[row : row + 1], mask[row : row + 1])
        assert_close(alone[0], together[row], rtol=1e-4, atol=1e-4)


def test_another_number_of_texts_without_reset_is_an_error() -> None:
    x, _, mask = inputs(sae_of("topk"))
    steer = STEER(latents_of("topk"))
    steer(x, mask)
    with pytest.raises(SaebenchError, match="remembers 3 texts but was given 2"):
        steer(x[:2], mask[:2])


def test_running_statistics_by_hand() -> None:
    values = torch.tensor([[[1.0], [0.0], [3.0], [2.0]]])
    total, largest, whole = Running("sum", "running"), Running("max", "running"), Running("sum", "whole")
    assert total(values[:, :2]).flatten().tolist() == [1, 1]
    assert total(values[:, 2:2]).shape == (1, 0, 1)
    assert total(values[:, 2:]).flatten().tolist() == [4, 6]
    assert largest(values).flatten().tolist() == [1, 1, 3, 3]
    assert largest(values[:, :1]).flatten().tolist() == [3]
    assert whole(values).flatten().tolist() == [6, 6, 6, 6]
