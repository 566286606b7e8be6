"""SAEs taken apart do what they did, or are not taken apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from saebench.diagnosis.parts import parts_of
from saebench.sae.sae_lens_adapter import SAELensAdapter
from tests.sae.conftest import CASES, D_IN, build

X = torch.randn(40, D_IN, generator=torch.Generator().manual_seed(1)) * 2 + 0.5
# A transcoder's output is not normalised as its input is, and the others are not affine.
WHOLE = {"matching_pursuit", "temporal", "temporal-scaled", "temporal-layer_norm"}


@pytest.mark.parametrize("case", list(CASES))
@torch.no_grad()
def test_every_architecture_of_sae_lens(case: str) -> None:
    sae = SAELensAdapter(build(case), "sae")
    x = X.reshape(4, 10, D_IN) if case.startswith("temporal") else X
    parts = parts_of(sae, x)
    assert (parts is None) == (case in WHOLE)
    if parts is not None:
        rebuilt = parts.sae()
        torch.testing.assert_close(rebuilt.decode(rebuilt.encode(X), X), sae.decode(sae.encode(X), X))


@torch.no_grad()
def test_an_sae_that_does_something_else_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    sae = SAELensAdapter(build("topk"), "sae")
    decode: Callable[..., Any] = sae.decode
    monkeypatch.setattr(sae, "decode", lambda z, x=None: 1.1 * decode(z, x))
    assert parts_of(sae, X) is None
