"""A PolySAE computes the polynomial of its paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from saebench.errors import NotApplicableError, SAELoadError
from saebench.sae.base import LoadContext
from saebench.sae.conformance import run_checks
from saebench.sae.reference import load_sae
from tests.sae.affine.files import D, K, M, inputs, keep_largest, relative, weights

RANKS = (16, 6, 4)
CASES = {
    "topk": {"architecture": "poly_topk", "k": K},
    "jumprelu": {"architecture": "poly_jumprelu"},
    "topk of a shared projection": {"architecture": "poly_topk", "k": K, "shared_u": True},
    "topk of the second order": {"architecture": "poly_topk", "k": K, "poly_order": 2, "apply_b_dec_to_input": False},
}


def tensors(settings: dict[str, Any]) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (D, M), "b_enc": (M,), "W_dec": (M, D), "b_dec": (D,)}
    shapes |= {f"C{n}": (D, rank) for n, rank in enumerate(RANKS, start=1)}
    shapes |= {f"U{n}": (M, rank) for n, rank in enumerate(RANKS, start=1)}
    shapes |= {"lambda2": (), "lambda3": (), "U_shared": (M, RANKS[0])}
    stored = {
        key: value * (0.2 if key[0] in "UC" else 1)
        for key, value in zip(shapes, weights(*shapes.values()), strict=True)
    }
    if not settings.get("shared_u"):
        del stored["U_shared"]
    if settings["architecture"] == "poly_jumprelu":
        stored["threshold"] = stored["b_enc"].abs()
    if settings.get("poly_order") == 2:  # the library writes zeros for the terms that there are not
        stored |= {key: torch.zeros_like(stored[key]) for key in ("U3", "C3", "lambda3")}
    return stored


def write(folder: Path, case: str, *, change: dict[str, Any] | None = None, gone: str = "") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "d_in": D, "d_sae": M, "normalize_activations": "none", "poly_order": 3, "poly_ranks": RANKS,
        "shared_u": False, "apply_b_dec_to_input": True,
        "metadata": {"hook_name": "blocks.8.hook_resid_post", "model_name": "gpt2"},
        **CASES[case],
    }  # fmt: skip
    stored = {key: value for key, value in tensors(settings).items() if key != gone}
    save_file(stored, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({**settings, **(change or {})}))
    return f"polysae:{folder}"


def formula(x: Tensor, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    W = {key: value.double() for key, value in tensors(settings).items()}
    pre = W["b_dec"] if settings.get("apply_b_dec_to_input", True) else 0.0
    p = (x - pre) @ W["W_enc"] + W["b_enc"]
    z = keep_largest(p, K).clamp(min=0) if "k" in settings else p * (p > W["threshold"])
    U1, U2, U3 = (W["U_shared"],) * 3 if settings.get("shared_u") else (W["U1"], W["U2"], W["U3"])
    _, second, third = RANKS
    out = W["b_dec"] + z @ U1 @ W["C1"].T
    out = out + W["lambda2"] * ((z @ U1[:, :second]) * (z @ U2[:, :second])) @ W["C2"].T
    cubes = (z @ U1[:, :third]) * (z @ U2[:, :third]) * (z @ U3[:, :third])
    return z, out + W["lambda3"] * cubes @ W["C3"].T


@pytest.mark.parametrize("case", CASES)
def test_latents_and_reconstructions_are_those_of_the_formula(case: str, tmp_path: Path) -> None:
    sae = load_sae(write(tmp_path, case), LoadContext())
    x = inputs()

    z = sae.encode(x)

    expected, xhat = formula(x.double(), CASES[case])
    assert relative(z, expected) < 1e-5
    assert relative(sae.decode(z), xhat) < 1e-5
    assert (str(sae.hook), sae.model_name) == ("blocks.8.hook_resid_post", "gpt2")


@pytest.mark.parametrize("case", CASES)
def test_it_passes_the_conformance_suite(case: str, tmp_path: Path) -> None:
    reference = write(tmp_path, case)

    results = run_checks(lambda: load_sae(reference, LoadContext()), activations=inputs())

    assert [(result.name, result.detail) for result in results if not result.ok] == []


def test_its_decoder_is_no_matrix(tmp_path: Path) -> None:
    with pytest.raises(NotApplicableError, match="decoder is not one fixed matrix"):
        load_sae(write(tmp_path, "topk"), LoadContext()).decoder_directions()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "poly_batchtopk"}, "save_inference_model"),
        ({"architecture": "topk"}, "knows only poly_topk"),
        ({"k": M + 1}, f"k={M + 1} must be from 1"),
        ({"k": None}, "k=None, but it must be a whole number"),
        ({"d_in": "16"}, "d_in='16', but it must be a whole number"),
        ({"d_sae": 40}, r"W_enc has the shape \[16, 48\], but \[16, 40\] is needed"),
        ({"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm=True"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations='layer_norm'"),
        ({"poly_order": 4}, "poly_order=4"),
        ({"poly_ranks": [4, 6, 16]}, "no rank may be above"),
        ({"poly_ranks": [16, 6]}, "three whole numbers"),
        ({"poly_ranks": 16}, "three whole numbers"),
        ({"poly_ranks": None, "poly_rank": 16}, r"U2 has the shape \[48, 6\], but \[48, 16\] is needed"),
        ({"shared_u": True}, "holds no U_shared"),
        ({"metadata": {}}, r"add \?hook="),
    ],
)
def test_settings_that_cannot_be_run_faithfully_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SAELoadError, match=message):
        load_sae(write(tmp_path, "topk", change=change), LoadContext())


@pytest.mark.parametrize("key", ["W_enc", "U1", "C3", "lambda2", "b_dec"])
def test_a_missing_tensor_is_named(key: str, tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match=f"holds no {key}"):
        load_sae(write(tmp_path, "topk", gone=key), LoadContext())


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    reference = write(tmp_path, "topk")
    stored = tensors(CASES["topk"])
    stored["C2"][0, 0] = float("nan")
    save_file(stored, tmp_path / "sae_weights.safetensors")

    with pytest.raises(SAELoadError, match="C2 holds 1 NaN or Inf"):
        load_sae(reference, LoadContext())
