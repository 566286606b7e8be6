"""SAEs that were trained on centred activations: they read the activations without their mean and give it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from saebench.errors import NotApplicableError
from saebench.sae.base import LoadContext
from saebench.sae.centred import CentredSAE
from saebench.sae.conformance import run_checks
from saebench.sae.reference import load_sae
from saebench.sae.sae_lens_adapter import SAELensAdapter

CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


class Model:
    name, revision = "tiny", None

    def __init__(self, ignores_mean: bool) -> None:
        self._ignores = ignores_mean

    def is_called(self, name: str) -> bool:
        return name == "tiny"

    def ignores_mean(self) -> bool:
        return self._ignores


@pytest.mark.parametrize("case", ["standard", "gated", "topk-rescaled", "abstopk", "jumprelu", "standard-layer_norm"])
def test_the_mean_goes_around_the_sae(lens: Callable[..., Any], sequences: Tensor, case: str) -> None:
    inner = SAELensAdapter(lens(case), case)
    sae = CentredSAE(inner)
    mean = sequences.mean(-1, keepdim=True)
    z = sae.encode(sequences)
    assert_close(z, inner.encode(sequences - mean))
    assert_close(sae.decode(z, sequences), inner.decode(z, sequences - mean) + mean)
    assert sae.architecture == inner.architecture
    assert sae.fingerprint() != inner.fingerprint()


@pytest.mark.parametrize("case", ["standard", "topk-rescaled", "abstopk", "transcoder", "standard-layer_norm"])
def test_it_does_what_an_evaluation_needs(lens: Callable[..., Any], case: str) -> None:
    results = run_checks(lambda: CentredSAE(SAELensAdapter(lens(case), case)))
    assert [result for result in results if not result.ok] == []


def test_it_needs_the_input_to_decode(lens: Callable[..., Any], sequences: Tensor) -> None:
    sae = CentredSAE(SAELensAdapter(lens("standard"), "standard"))
    with pytest.raises(NotApplicableError, match="without their mean, so decode"):
        sae.decode(sae.encode(sequences))


@pytest.mark.parametrize(
    ("metadata", "model", "centred"),
    [
        (CENTRED, Model(True), True),
        (CENTRED, Model(False), False),  # with RMS norms TransformerLens does not centre
        (CENTRED, None, False),
        ({}, Model(True), False),
        ({**CENTRED, "hook_name": "blocks.1.attn.hook_z"}, Model(True), False),
    ],
)
def test_when_a_folder_is_read_centred(
    lens_folder: Callable[..., Path], metadata: dict[str, Any], model: Model | None, centred: bool
) -> None:
    folder = lens_folder("standard", metadata=metadata)
    sae = load_sae(f"sae_lens:{folder}", LoadContext(model=model))
    assert isinstance(sae, CentredSAE) is centred
    assert ("centred" in sae.notes()) is centred  # type: ignore[attr-defined]


def test_moving_it_moves_the_inner_one(lens: Callable[..., Any]) -> None:
    sae = CentredSAE(SAELensAdapter(lens("standard"), "standard"))
    assert sae.to(torch.device("cpu")) is sae
    assert sae.state_dict().keys() == {f"inner.{key}" for key in sae.inner.state_dict()}
