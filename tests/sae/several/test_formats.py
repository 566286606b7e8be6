"""Every format of crosscoders and cross-layer transcoders computes what its source computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from saebench.sae.base import LoadContext
from saebench.sae.conformance import run_checks
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.sae.several.schemes import several_schemes
from tests.sae.several.files import EXAMPLES, D

TOLERANCE = 1e-5  # relative to the largest value


def inputs(sites: int, tokens: int = 64) -> Tensor:
    return torch.randn(tokens, sites * D, generator=torch.Generator().manual_seed(1)) * 2 + 0.3


def gap(mine: Tensor, expected: Tensor) -> float:
    return float((mine.double() - expected).abs().max() / expected.abs().max())


def test_every_format_has_an_example(tmp_path: Path) -> None:
    shown = {make(tmp_path / name).reference.partition(":")[0] for name, make in EXAMPLES.items()}

    assert shown == {scheme.name for scheme in several_schemes()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_latents_and_reconstructions_are_those_of_the_formula(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name](tmp_path)
    x = inputs(example.sites)

    sae = load_sae(example.reference, LoadContext())

    z, xhat = example.formula(list(x.double().split(D, -1)))
    mine = sae.encode(x)
    assert 0 < (z != 0).double().mean() < 0.9
    assert torch.equal(mine != 0, z != 0)
    assert gap(mine, z) < TOLERANCE
    assert gap(sae.decode(mine, x), torch.cat(xhat, -1)) < TOLERANCE
    values, indices = sae.encode_sparse(x)
    assert torch.equal(torch.zeros_like(mine).scatter_add(-1, indices, values), mine)
    assert (str(sae.hook), sae.architecture) == (example.hook, example.architecture)
    assert (sae.d_in, sae.d_out, sae.d_sae) == (x.shape[1], len(xhat) * D, z.shape[1])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_plan_knows_the_hook_without_reading_weights(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name](tmp_path)
    for file in tmp_path.iterdir():
        if file.suffix in (".safetensors", ".pt"):
            file.write_bytes(b"")

    hook = parse_sae_ref(example.reference).site("blocks.0.hook_resid_pre")

    assert str(hook) == example.hook


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_adapter_passes_the_conformance_suite(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name](tmp_path)

    results = run_checks(lambda: load_sae(example.reference, LoadContext()), activations=inputs(example.sites))

    assert [(result.name, result.detail) for result in results if not result.ok] == []


@pytest.mark.parametrize("name", ["circuit-tracer-jumprelu", "gemma-scope-2-skip", "lm-saes-clt-relu"])
def test_few_active_latents_are_decoded_alike(name: str, tmp_path: Path) -> None:
    """Latents without activity are left out of the product; the others must find their own rows."""
    example = EXAMPLES[name](tmp_path)
    sae, x = load_sae(example.reference, LoadContext()), inputs(example.sites, 2)
    z = torch.zeros(2, sae.d_sae)
    z[0, 3] = z[1, sae.d_sae - 2] = 2.0
    dense = z + 1e-30  # all latents active, so nothing is left out

    assert gap(sae.decode(z, x), sae.decode(dense, x).double()) < TOLERANCE
