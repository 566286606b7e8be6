"""Files of published formats with random weights, and what their formulas give, written out in float64.

The formulas stand here a second time, and in another way than in the adapter: from the raw content of the files, in
float64, without folding anything into the weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D, M, K = 16, 48, 5
Formula = Callable[[Tensor], tuple[Tensor, Tensor]]  # x -> (z, xhat), all in float64


@dataclass(frozen=True)
class Example:
    """An SAE in a format.

    Attributes:
        format: The name of the map.
        path: What the reference names.
        formula: What the source library computes.
        site: Where it reads.
        site_out: Where it writes.
        architecture: What tables call it.
        query: The options of the reference.
    """

    format: str
    path: Path
    formula: Formula
    site: str
    site_out: str
    architecture: str
    query: str = ""

    @property
    def reference(self) -> str:
        return f"{self.format}:{self.path}" + (f"?{self.query}" if self.query else "")


def weights(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def inputs(seed: int = 1) -> Tensor:
    return torch.randn(64, D, generator=torch.Generator().manual_seed(seed)) * 3 + 0.5


def doubles(*tensors: Tensor) -> list[Tensor]:
    return [tensor.double() for tensor in tensors]


def relative(mine: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((mine.double() - expected).abs().max() / expected.abs().max())


def keep_largest(p: Tensor, k: int) -> Tensor:
    """The k largest of each token, and 0 elsewhere, by sorting."""
    order = p.argsort(dim=-1, descending=True)
    rank = order.argsort(dim=-1)
    return torch.where(rank < k, p, torch.zeros_like(p))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def save(path: Path, tensors: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{key: tensor.numpy() for key, tensor in tensors.items()})
    else:
        torch.save(dict(tensors), path)
    return path


def gemma_scope(root: Path) -> Example:
    We, Wd, be, bd, t = weights((D, M), (M, D), (M,), (D,), (M,))
    t = t.abs()
    folder = root / "gemma-scope-2b-pt-res/layer_3/width_48/average_l0_5"
    save(folder / "params.npz", {"W_enc": We, "W_dec": Wd, "b_enc": be, "b_dec": bd, "threshold": t})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        We_, Wd_, be_, bd_, t_ = doubles(We, Wd, be, bd, t)
        p = x @ We_ + be_
        z = torch.where(p > t_, p, 0.0).clamp(min=0)
        return z, z @ Wd_ + bd_

    site = "blocks.3.hook_resid_post"
    return Example("gemma_scope", folder, formula, site, site, "jumprelu")


def gemma_scope_2_transcoder(root: Path) -> Example:
    We, Wd, be, bd, t, skip = weights((D, M), (M, D), (M,), (D,), (M,), (D, D))
    t = t.abs()
    folder = root / "gemma-scope-2-270m-pt/transcoder/layer_9_width_48_l0_small_affine"
    names = {"w_enc": We, "w_dec": Wd, "b_enc": be, "b_dec": bd, "threshold": t, "affine_skip_connection": skip}
    save(folder / "params.safetensors", names)
    write_json(folder / "config.json", {"architecture": "jump_relu", "model_name": "gemma-v3-270m-pt"})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        We_, Wd_, be_, bd_, t_, skip_ = doubles(We, Wd, be, bd, t, skip)
        p = x @ We_ + be_
        z = torch.where(p > t_, p, 0.0).clamp(min=0)
        return z, z @ Wd_ + bd_ + x @ skip_

    return Example("gemma_scope_2", folder, formula, "blocks.9.mlp.hook_in", "blocks.9.hook_mlp_out", "jumprelu")


def qwen_scope(root: Path) -> Example:
    We, Wd, be, bd = weights((M, D), (D, M), (M,), (D,))
    path = root / f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}" / "layer14.sae.pt"
    save(path, {"W_enc": We, "W_dec": Wd, "b_enc": be, "b_dec": bd})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        We_, Wd_, be_, bd_ = doubles(We, Wd, be, bd)
        z = keep_largest(x @ We_.T + be_, K).clamp(min=0)
        return z, z @ Wd_.T + bd_

    site = "blocks.14.hook_resid_post"
    return Example("qwen_scope", path, formula, site, site, "topk")


def goodfire(root: Path) -> Example:
    We, Wd, be, bd = weights((M, D), (D, M), (M,), (D,))
    path = root / "Llama-3.1-8B-Instruct-SAE-l19.pth"
    save(
        path,
        {
            "encoder_linear.weight": We,
            "encoder_linear.bias": be,
            "decoder_linear.weight": Wd,
            "decoder_linear.bias": bd,
        },
    )

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x @ We.double().T + be).clamp(min=0)
        return z, z @ Wd.double().T + bd

    site = "blocks.19.hook_resid_post"
    return Example("goodfire", path, formula, site, site, "relu")


def qresearch(root: Path) -> Example:
    We, Wd, be, bd = weights((M, D), (D, M), (M,), (D,))
    path = root / "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"
    save(path, {"encoder.weight": We, "encoder.bias": be, "decoder.weight": Wd, "decoder.bias": bd})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x @ We.double().T + be).clamp(min=0)
        return z, z @ Wd.double().T + bd

    site = "blocks.19.hook_resid_post"
    return Example("qresearch", path, formula, site, site, "relu")


def kissane(root: Path) -> Example:
    We, Wd, be, bd = weights((D, M), (M, D), (M,), (D,))
    path = save(root / "gpt2-small_L5_z.pt", {"W_enc": We, "W_dec": Wd, "b_enc": be, "b_dec": bd})
    write_json(root / "gpt2-small_L5_z_cfg.json", {"act_size": D, "dict_size": M, "act_name": "blocks.5.attn.hook_z"})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = ((x - bd) @ We.double() + be).clamp(min=0)
        return z, z @ Wd.double() + bd

    return Example("kissane", path, formula, "blocks.5.attn.hook_z", "blocks.5.attn.hook_z", "relu")


def llama_scope(root: Path) -> Example:
    We, Wd, be, bd = weights((M, D), (D, M), (M,), (D,))
    norm_in, norm_out, threshold = 7.0, 11.0, 2.0
    folder = root / "Llama3_1-8B-Base-L15R-8x"
    names = {"encoder.weight": We, "encoder.bias": be, "decoder.weight": Wd, "decoder.bias": bd}
    save(folder / "checkpoints/final.safetensors", names)
    write_json(
        folder / "hyperparams.json",
        {
            "act_fn": "jumprelu",
            "jump_relu_threshold": threshold,
            "norm_activation": "dataset-wise",
            "sparsity_include_decoder_norm": True,
            "dataset_average_activation_norm": {"in": norm_in, "out": norm_out},
            "hook_point_in": "blocks.15.hook_resid_post",
            "hook_point_out": "blocks.15.hook_resid_post",
        },
    )

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        # The steps of the reference loader: the scaling first, then the norms of the decoder rows.
        si, so = D**0.5 / norm_in, D**0.5 / norm_out
        W_E, W_D, b_E, b_D = We.double().T, Wd.double().T * si / so, be.double() / si, bd.double() / so
        norms = W_D.norm(dim=-1)
        p = x @ (W_E * norms) + b_E * norms
        z = p * (p > threshold)
        return z, z @ (W_D / norms[:, None]) + b_D

    site = "blocks.15.hook_resid_post"
    return Example("llama_scope", folder, formula, site, site, "jumprelu")


def opensae(root: Path) -> Example:
    We, Wd, be, bd = weights((M, D), (M, D), (M,), (D,))
    folder = root / "OpenSAE-LLaMA-3.1-Layer_10"
    save(folder / "model.safetensors", {"encoder.weight": We, "encoder.bias": be, "W_dec": Wd, "b_dec": bd})
    config = {"activation": "topk", "k": K, "input_normalize": True, "input_hookpoint": "layers.10"}
    write_json(folder / "config.json", {**config, "normalize_shift_back": True})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(-1, keepdim=True)
        std = ((x - mean) ** 2).sum(-1, keepdim=True).div(D - 1).sqrt()
        p = ((x - mean) / (std + 1e-5) - bd) @ We.double().T + be
        z = keep_largest(p.clamp(min=0), K)
        return z, (z @ Wd.double() + bd) * std + mean

    site = "blocks.10.hook_resid_post"
    return Example("opensae", folder, formula, site, site, "topk")


def circuit_tracer(root: Path) -> Example:
    We, Wd, be, bd, skip = weights((M, D), (M, D), (M,), (D,), (D, D))
    path = root / "layer_7.safetensors"
    save(path, {"W_enc": We, "W_dec": Wd, "b_enc": be, "b_dec": bd, "W_skip": skip})
    (root / "config.yaml").write_text(
        "model_name: Qwen/Qwen3-0.6B\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    )

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x @ We.double().T + be).clamp(min=0)
        return z, z @ Wd.double() + bd + x @ skip.double().T

    return Example("circuit_tracer", path, formula, "blocks.7.mlp.hook_in", "blocks.7.hook_mlp_out", "transcoder")


def sparsify(root: Path) -> Example:
    We, Wd, be, bd, skip = weights((M, D), (M, D), (M,), (D,), (D, D))
    folder = root / "layers.10"
    save(
        folder / "sae.safetensors", {"encoder.weight": We, "encoder.bias": be, "W_dec": Wd, "b_dec": bd, "W_skip": skip}
    )
    write_json(
        folder / "cfg.json",
        {"activation": "topk", "k": K, "d_in": D, "num_latents": M, "skip_connection": True, "transcode": False},
    )

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = keep_largest(((x - bd) @ We.double().T + be).clamp(min=0), K)
        return z, z @ Wd.double() + bd + x @ skip.double().T

    site = "blocks.10.hook_resid_post"
    return Example("sparsify", folder, formula, site, site, "topk")


def sparsify_groupmax_transcoder(root: Path) -> Example:
    We, Wd, be, bd = weights((M, D), (M, D), (M,), (D,))
    folder = root / "layers.5.mlp"
    save(folder / "sae.safetensors", {"encoder.weight": We, "encoder.bias": be, "W_dec": Wd, "b_dec": bd})
    write_json(folder / "cfg.json", {"activation": "groupmax", "k": 6, "d_in": D, "num_latents": M, "transcode": True})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        p = (x @ We.double().T + be).clamp(min=0)
        groups = p.reshape(len(x), 6, M // 6)
        z = torch.where(groups == groups.amax(-1, keepdim=True), groups, 0.0).reshape(len(x), M)
        return z, z @ Wd.double() + bd

    return Example("sparsify", folder, formula, "blocks.5.mlp.hook_in", "blocks.5.hook_mlp_out", "groupmax")


def dictionary_learning(kind: str) -> Callable[[Path], Example]:
    def make(root: Path) -> Example:
        We, Wd, be, bd, t, r, bg, bm = weights((M, D), (D, M), (M,), (D,), (M,), (M,), (M,), (M,))
        r, t = r * 0.1, t.abs()
        linear = {"encoder.weight": We, "encoder.bias": be, "decoder.weight": Wd}
        plain = {"W_enc": We.T.contiguous(), "W_dec": Wd.T.contiguous(), "b_enc": be, "b_dec": bd}
        names: dict[str, Tensor] = {
            "AutoEncoder": {**linear, "bias": bd},
            "AutoEncoderNew": {**linear, "decoder.bias": bd},
            "GatedAutoEncoder": {
                "encoder.weight": We, "decoder.weight": Wd, "decoder_bias": bd,
                "r_mag": r, "gate_bias": bg, "mag_bias": bm,
            },
            "JumpReluAutoEncoder": {**plain, "threshold": t},
            "AutoEncoderTopK": {**linear, "b_dec": bd, "k": torch.tensor(K), "threshold": torch.tensor(-1.0)},
            "BatchTopKSAE": {**linear, "b_dec": bd, "k": torch.tensor(K), "threshold": torch.tensor(2.0)},
            "MatryoshkaBatchTopKSAE": {
                **plain, "group_sizes": torch.tensor([16, 32]),
                "k": torch.tensor(K), "threshold": torch.tensor(2.0)},
        }[kind]  # fmt: skip
        folder = root / kind / "resid_post_layer_8" / "trainer_0"
        save(folder / "ae.pt", names)
        trainer = {"dict_class": kind, "k": K, "layer": 8, "submodule_name": "resid_post_layer_8", "lm_name": "gpt2"}
        write_json(folder / "config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})

        def formula(x: Tensor) -> tuple[Tensor, Tensor]:
            E, W, b, c = We.double().T, Wd.double().T, be.double(), bd.double()
            if kind == "AutoEncoder":
                z = ((x - c) @ E + b).clamp(min=0)
            elif kind == "AutoEncoderNew":
                z = (x @ E + b).clamp(min=0)
            elif kind == "GatedAutoEncoder":
                e = (x - c) @ E
                z = (e * r.double().exp() + bm).clamp(min=0) * (e + bg > 0)
            elif kind == "JumpReluAutoEncoder":
                p = x @ E + b
                z = (p * (p > t)).clamp(min=0)
            else:
                p = ((x - c) @ E + b).clamp(min=0)
                z = keep_largest(p, K) if kind == "AutoEncoderTopK" else p * (p > 2.0)
            return z, z @ W + c

        architecture = {
            "GatedAutoEncoder": "gated",
            "JumpReluAutoEncoder": "jumprelu",
            "AutoEncoderTopK": "topk",
            "BatchTopKSAE": "batchtopk",
            "MatryoshkaBatchTopKSAE": "matryoshka_batchtopk",
        }.get(kind, "relu")
        site = "blocks.8.hook_resid_post"
        return Example("dictionary_learning", folder, formula, site, site, architecture)

    return make


DICTIONARY_CLASSES = (
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
)
EXAMPLES: dict[str, Callable[[Path], Example]] = {
    **{
        make.__name__: make
        for make in (
            gemma_scope,
            gemma_scope_2_transcoder,
            qwen_scope,
            goodfire,
            qresearch,
            kissane,
            llama_scope,
            opensae,
            circuit_tracer,
            sparsify,
            sparsify_groupmax_transcoder,
        )
    },
    **{f"dictionary_learning_{kind}": dictionary_learning(kind) for kind in DICTIONARY_CLASSES},
}
