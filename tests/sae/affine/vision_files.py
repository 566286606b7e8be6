"""Files of SAEs of vision models, with their formulas in float64. `tests.sae.affine.files` says how they are written.

None of them has a hook point of a language model, so every reference names one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.sae.affine.files import D, Example, K, M, keep_largest, save, weights, write_json

SITE = "blocks.11.hook_resid_post"


def overcomplete(kind: str, *, encoder: str = "linear", factor: float = 0.3) -> Callable[[Path], Example]:
    def make(root: Path) -> Example:
        We, atoms, be, thresholds = weights((M, D), (M, D), (M,), (M,))
        atoms = atoms / atoms.norm(dim=-1, keepdim=True)
        names = {"dictionary._weights": atoms, "dictionary.multiplier": torch.tensor(factor)}
        if encoder == "linear":
            names |= {"encoder.final_block.0.weight": We, "encoder.final_block.0.bias": be}
        elif encoder == "untied":
            names |= {"encoder.weight": We}
        else:
            names |= {"encoder.tied_to._weights": atoms, "encoder.tied_to.multiplier": torch.tensor(factor)}
        if kind == "jumprelu":
            names["thresholds"] = thresholds
        path = save(root / "sae.pt", names)

        def formula(x: Tensor) -> tuple[Tensor, Tensor]:
            dictionary = atoms.double() * torch.tensor(factor, dtype=torch.float32).double().exp()
            E = dictionary if encoder == "tied" else We.double()
            p = (x @ E.T + (be.double() if encoder == "linear" else 0.0)).clamp(min=0)
            if kind == "topk":
                z = keep_largest(p, K)
            else:
                z = p * (p >= (thresholds.double().exp() if kind == "jumprelu" else 2.0))
            return z, z @ dictionary

        option = {"topk": f"&k={K}", "batchtopk": "&threshold=2.0", "jumprelu": ""}[kind]
        return Example("overcomplete", path, formula, SITE, SITE, kind, f"hook={SITE}{option}")

    return make


def visaebench(kind: str, config_name: str) -> Callable[[Path], Example]:
    def make(root: Path) -> Example:
        We, Wd, be, bd, thresholds = weights((M, D), (M, D), (M,), (D,), (M,))
        thresholds = thresholds.abs()
        names = {"encoder.weight": We, "encoder.bias": be, "decoder.weight": Wd, "decoder.bias": bd}
        config: dict[str, object] = {"input_dim": D, "hidden_dim": M, "k": K}
        config["activation" if kind == "topk" else "sae_type"] = kind.replace("relu", "ReLU")
        if kind == "batchtopk":
            names["_running_threshold"] = torch.tensor(2.0)
        elif kind == "jumprelu":
            names["jump_thresholds"] = thresholds
        save(root / ("model.safetensors" if kind == "jumprelu" else "sae.pt"), names)
        write_json(root / config_name, config)

        def formula(x: Tensor) -> tuple[Tensor, Tensor]:
            p = (x @ We.double().T + be).clamp(min=0)
            z = {
                "topk": keep_largest(p, K),
                "batchtopk": torch.where(p >= 2.0, p, 0.0),
                "jumprelu": torch.where(p > thresholds, p, 0.0),
            }[kind]
            return z, z @ Wd.double() + bd

        return Example("visaebench", root, formula, SITE, SITE, kind, f"hook={SITE}")

    return make


def visaebench_overcomplete(root: Path) -> Example:
    We, Wd, be = weights((M, D), (M, D), (M,))
    names = {"encoder.final_block.0.weight": We, "encoder.final_block.0.bias": be, "dictionary._weights": Wd}
    save(root / "model.pt", {**names, "dictionary.multiplier": torch.tensor(0.5)})
    write_json(root / "config.json", {"architecture": "topk", "k": K})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = keep_largest((x @ We.double().T + be).clamp(min=0), K)
        return z, z @ (Wd.double() * torch.tensor(0.5).double().exp())

    return Example("visaebench", root, formula, SITE, SITE, "topk", f"hook={SITE}")


def prisma(architecture: str, norm: str, *, nested: bool) -> Callable[[Path], Example]:
    def make(root: Path) -> Example:
        We, Wd, be, bd, r, bg, bm = weights((D, M), (M, D), (M,), (D,), (M,), (M,), (M,))
        r = r * 0.1
        names = {"W_enc": We, "W_dec": Wd, "b_enc": be, "b_dec": bd}
        gated = architecture == "gated"
        if gated:
            names |= {"r_mag": r, "b_gate": bg, "b_mag": bm}
        save(root / "weights.pt", {"cfg": {"d_in": D}, "state_dict": names} if nested else names)
        settings = {
            "architecture": architecture, "d_in": D, "expansion_factor": M // D, "normalize_activations": norm,
            "activation_fn_str": "relu" if gated else "topk", "activation_fn_kwargs": {} if gated else {"k": K},
            "hook_point_layer": 11, "layer_subtype": "hook_resid_post", "cls_token_only": False,
            "is_transcoder": False, "model_name": "open-clip:laion/CLIP-ViT-B-32",
        }  # fmt: skip
        write_json(root / "config.json", settings)

        def formula(x: Tensor) -> tuple[Tensor, Tensor]:
            mean, std, scale = torch.zeros(1), torch.ones(1).double(), torch.ones(1).double()
            if norm == "layer_norm":
                mean = x.mean(-1, keepdim=True)
                std = ((x - mean) ** 2).sum(-1, keepdim=True).div(D - 1).sqrt()
                scale = std + 1e-5
            elif norm == "constant_norm_rescale":
                std = scale = (x**2).sum(-1, keepdim=True).sqrt() / D**0.5
            e = ((x - mean) / scale - bd) @ We.double()
            if gated:
                z = (e * r.double().exp() + bm).clamp(min=0) * (e + bg > 0)
            else:
                z = keep_largest(e + be, K).clamp(min=0)
            return z, (z @ Wd.double() + bd) * std + mean

        return Example("prisma", root, formula, SITE, SITE, "gated" if gated else "topk", f"hook={SITE}")

    return make


def with_json_line(path: Path, line: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    stored = io.BytesIO()
    torch.save(dict(tensors), stored)
    path.write_bytes(json.dumps(line).encode() + b"\n" + stored.getvalue())
    return path


def saev_0_1(root: Path) -> Example:
    We, Wd, be, bd = weights((D, M), (M, D), (M,), (D,))
    line = {"d_vit": D, "exp_factor": M // D, "sparsity_coeff": 4e-4, "seed": 0}
    root.mkdir(parents=True, exist_ok=True)
    path = with_json_line(root / "sae.pt", line, {"W_enc": We, "W_dec": Wd, "b_enc": be, "b_dec": bd})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = ((x * 0.5 - bd) @ We.double() + be).clamp(min=0)
        return z, (z @ Wd.double() + bd) / 0.5

    return Example("saev", path, formula, SITE, SITE, "relu", f"hook={SITE}&norm_scaling_factor=0.5")


def saev(kind: str, schema: int) -> Callable[[Path], Example]:
    def make(root: Path) -> Example:
        We, Wd, be, bd = weights((D, M), (M, D), (M,), (D,))
        names = {"W_enc": We, "W_dec": Wd, "b_enc": be - 12.0, "b_dec": bd}
        if kind == "BatchTopK":
            names |= {"activation.threshold": torch.tensor(2.0), "b_enc": be}
        activation = {"cls": kind, "params": {"top_k": K, "sparsity": {"cls": "NoSparsity", "params": {}}}}
        line: dict[str, Any] = {"schema": schema, "cfg": {"activation": activation}, "commit": "x", "lib": "x"}
        if schema == 1:
            line = {"schema": 1, "cls": kind, "cfg": {"top_k": K}}
        root.mkdir(parents=True, exist_ok=True)
        path = with_json_line(root / "sae.pt", line, names)

        def formula(x: Tensor) -> tuple[Tensor, Tensor]:
            p = x @ We.double() + names["b_enc"]
            z = torch.where(p > 2.0, p, 0.0) if kind == "BatchTopK" else keep_largest(p, K)  # no relu
            return z, z @ Wd.double() + bd

        architecture = "batchtopk" if kind == "BatchTopK" else "topk"
        return Example("saev", path, formula, SITE, SITE, architecture, f"hook={SITE}")

    return make


EXAMPLES: dict[str, Callable[[Path], Example]] = {
    "overcomplete_topk": overcomplete("topk"),
    "overcomplete_batchtopk": overcomplete("batchtopk"),
    "overcomplete_jumprelu": overcomplete("jumprelu"),
    "overcomplete_tied": overcomplete("topk", encoder="tied"),
    "overcomplete_untied": overcomplete("topk", encoder="untied"),
    "visaebench_topk": visaebench("topk", "config.json"),
    "visaebench_batchtopk": visaebench("batchtopk", "config.yaml"),
    "visaebench_jumprelu": visaebench("jumprelu", "config.yml"),
    "visaebench_of_overcomplete": visaebench_overcomplete,
    "prisma_topk": prisma("standard", "layer_norm", nested=False),
    "prisma_rescaled": prisma("standard", "constant_norm_rescale", nested=True),
    "prisma_gated": prisma("gated", "layer_norm", nested=False),
    "saev_0_1": saev_0_1,
    "saev_topk": saev("TopK", 5),
    "saev_topk_schema_1": saev("TopK", 1),
    "saev_batchtopk": saev("BatchTopK", 4),
}
