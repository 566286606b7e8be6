"""Temporal SAEs in the files of their authors compute what the paper's formula says, on whole sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from saebench.errors import NotApplicableError, SAELoadError
from saebench.sae.base import LoadContext
from saebench.sae.conformance import run_checks
from saebench.sae.reference import load_sae
from tests.sae.affine.files import relative

D, M, K, HEADS, BOTTLENECK, FACTOR = 16, 32, 5, 2, 4, 0.3
SAE = {
    "exp_factor": M / D, "n_heads": HEADS, "n_attn_layers": 2, "bottleneck_factor": BOTTLENECK,
    "sae_diff_type": "topk", "kval_topk": K, "tied_weights": True, "scaling_factor": FACTOR,
}  # fmt: skip


def tensors(layers: int = 2, *, tied: bool = True) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    inner = M // BOTTLENECK
    shapes: dict[str, tuple[int, ...]] = {"D": (M, D), "b": (D,)} | ({} if tied else {"E": (D, M)})
    for layer in range(layers):
        for part, rows in (("k_ctx", inner), ("q_target", inner), ("v_ctx", M), ("c_proj", M)):
            shapes |= {f"attn_layers.{layer}.{part}.weight": (rows, M), f"attn_layers.{layer}.{part}.bias": (rows,)}
    return {key: torch.randn(shape, generator=draw) / shape[-1] ** 0.5 for key, shape in shapes.items()}


def write(root: Path, *, change: dict[str, Any] | None = None, stored: dict[str, Tensor] | None = None) -> str:
    folder = root / "layer_12" / "temporal"
    folder.mkdir(parents=True)
    settings = {**SAE, **(change or {})}
    save_file(stored or tensors(tied=settings["tied_weights"]), folder / "latest_ckpt.safetensors")
    content = {"llm": {"dimin": D, "name": "gpt2"}, "sae": settings, "data": {"dtype": "float32"}}
    (folder / "conf.yaml").write_text(yaml.safe_dump(content))
    return f"temporal:{folder}"


def sequences() -> Tensor:
    return torch.randn(3, 8, D, generator=torch.Generator().manual_seed(1)) * 4


def attended(past: Tensor, now: Tensor, part: dict[str, Tensor]) -> Tensor:
    """Causal attention of one sequence with the weights of one layer, head by head and position by position."""
    q, k, v = (
        source @ part[f"{key}.weight"].T + part[f"{key}.bias"]
        for key, source in (("q_target", now), ("k_ctx", past), ("v_ctx", past))
    )
    out = torch.zeros_like(v)
    for head in range(HEADS):
        narrow = slice(head * q.shape[-1] // HEADS, (head + 1) * q.shape[-1] // HEADS)
        wide = slice(head * M // HEADS, (head + 1) * M // HEADS)
        for t in range(len(now)):
            scores = (k[: t + 1, narrow] @ q[t, narrow]) / (q.shape[-1] // HEADS) ** 0.5
            shares = (scores - scores.max()).exp()
            out[t, wide] = (shares / shares.sum()) @ v[: t + 1, wide]
    return out @ part["c_proj.weight"].T + part["c_proj.bias"]


def formula(x: Tensor, stored: dict[str, Tensor], *, layers: int = 2) -> tuple[Tensor, Tensor]:
    """The novel latents and the reconstruction of one sequence ``[position, d_in]``, in float64."""
    W = {key: value.double() for key, value in stored.items()}
    E, factor = W.get("E", W["D"].T), 1 / (4 * D)
    residual = x.double() * FACTOR - W["b"]
    predicted = torch.zeros(len(x), M, dtype=torch.float64)
    for layer in range(layers):
        prefix = f"attn_layers.{layer}."
        part = {key.removeprefix(prefix): value for key, value in W.items() if key.startswith(prefix)}
        now = (residual * factor @ E).clamp(min=0)
        past = torch.cat([torch.zeros(1, M, dtype=torch.float64), now[:-1]])
        z = attended(past, now, part).clamp(min=0)
        out = z @ W["D"]
        scale = (out * residual).sum(-1, keepdim=True) / ((out**2).sum(-1, keepdim=True).sqrt() + 1e-6) ** 2
        predicted, residual = predicted + z * scale, residual - scale * out
    p = (residual * factor @ E).clamp(min=0)
    kept = p.topk(K).indices
    novel = torch.zeros_like(p).scatter_(-1, kept, p.gather(-1, kept))
    return novel, ((novel + predicted) @ W["D"] + W["b"]) / FACTOR


@pytest.mark.parametrize("tied", [True, False])
def test_latents_and_reconstructions_are_those_of_the_formula(tied: bool, tmp_path: Path) -> None:
    sae = load_sae(write(tmp_path, change={"tied_weights": tied}), LoadContext())
    x = sequences()

    z = sae.encode(x)

    expected = [formula(sequence, tensors(tied=tied)) for sequence in x]
    assert relative(z, torch.stack([novel for novel, _ in expected])) < 1e-5
    assert relative(sae.decode(z, x), torch.stack([xhat for _, xhat in expected])) < 1e-5
    assert (str(sae.hook), sae.architecture) == ("blocks.12.hook_resid_post", "temporal")


def test_it_passes_the_conformance_suite(tmp_path: Path) -> None:
    reference = write(tmp_path)
    draw = torch.Generator().manual_seed(2)

    results = run_checks(lambda: load_sae(reference, LoadContext()), activations=torch.randn(64, D, generator=draw) * 4)

    assert [(result.name, result.detail) for result in results if not result.ok] == []


def test_loose_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotApplicableError, match="reads whole sequences"):
        load_sae(write(tmp_path), LoadContext()).encode(torch.zeros(4, D))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kval_topk": M + 1}, f"conf.yaml says kval_topk={M + 1} and d_sae={M}"),
        ({"kval_topk": None}, "sae.kval_topk=None, but it must be a whole number"),
        ({"sae_diff_type": "jump"}, "sae_diff_type='jump', but it must be 'relu' or 'topk'"),
        ({"scaling_factor": 0}, "sae.scaling_factor=0, but it must be a number above 0"),
        ({"scaling_factor": None}, "sae.scaling_factor=None"),
        ({"exp_factor": "two"}, "sae.exp_factor='two'"),
        ({"n_heads": 3}, "must be divisible"),
        ({"n_attn_layers": 3}, r"holds no attn_layers\.2"),
        ({"n_attn_layers": 1}, "has no use for"),
        ({"tied_weights": "yes"}, "must be true or false"),
        ({"exp_factor": 4}, r"D has the shape \[32, 16\], but \[64, 16\] is needed, because conf.yaml says"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    reference = write(tmp_path, stored=tensors(), change=change)

    with pytest.raises(SAELoadError, match=message):
        load_sae(reference, LoadContext())


@pytest.mark.parametrize("key", ["D", "b", "attn_layers.0.v_ctx.weight"])
def test_missing_and_damaged_tensors_are_refused_by_their_names(key: str, tmp_path: Path) -> None:
    stored = tensors()
    gone = {name: value for name, value in stored.items() if name != key}
    with pytest.raises(SAELoadError, match=f"holds no {key}"):
        load_sae(write(tmp_path / "gone", stored=gone), LoadContext())

    stored[key].view(-1)[0] = float("nan")
    with pytest.raises(SAELoadError, match="NaN or Inf"):
        load_sae(write(tmp_path / "nan", stored=stored), LoadContext())


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    reference = write(tmp_path)
    Path(reference.removeprefix("temporal:"), "conf.yaml").write_text("sae: {}")

    with pytest.raises(SAELoadError, match="says llm=None, which must be a mapping"):
        load_sae(reference, LoadContext())
