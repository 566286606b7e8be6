"""Files of OpenMOSS and OpenAI, and of people who saved what they had, with their formulas in float64.

`tests.sae.affine.files` says how the formulas are written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tests.sae.affine.files import D, Example, K, M, keep_largest, save, weights, write_json

RESID = "blocks.9.hook_resid_post"
MLP_IN, MLP_OUT = "blocks.9.ln2.hook_normalized", "blocks.9.hook_mlp_out"


def openai(kind: str) -> Callable[[Path], Example]:
    def make(root: Path) -> Example:
        We, Wd, be, bd = weights((M, D), (D, M), (M,), (D,))
        place, site = {
            "TopK": ("resid_delta_attn_v5_32k", "blocks.8.hook_attn_out"),
            "ReLU": ("mlp_post_act_v4", "blocks.8.mlp.hook_post"),
        }[kind]
        path = root / "gpt2-small" / place / "autoencoders" / "8.pt"
        path.parent.mkdir(parents=True)
        state: OrderedDict[str, object] = OrderedDict(
            {
                "pre_bias": bd,
                "latent_bias": be,
                "stats_last_nonzero": torch.zeros(M, dtype=torch.long),
                "latents_activation_frequency": torch.ones(M),
                "latents_mean_square": torch.zeros(M),
                "encoder.weight": We,
                "decoder.weight": Wd,
                "activation": kind,
                "activation_state_dict": OrderedDict({"k": K, "postact_fn": "ReLU"} if kind == "TopK" else {}),
            }
        )
        torch.save(state, path)

        def formula(x: Tensor) -> tuple[Tensor, Tensor]:
            if kind == "ReLU":
                z = ((x - bd) @ We.double().T + be).clamp(min=0)
                return z, z @ Wd.double().T + bd
            mean = x.mean(-1, keepdim=True)
            std = ((x - mean) ** 2).sum(-1, keepdim=True).div(D - 1).sqrt()
            z = keep_largest(((x - mean) / (std + 1e-5) - bd) @ We.double().T + be, K).clamp(min=0)
            return z, (z @ Wd.double().T + bd) * std + mean

        return Example("openai", path, formula, site, site, kind.lower())

    return make


def llama_scope_r1(root: Path) -> Example:
    We, Wd, be, bd, log_threshold = weights((M, D), (D, M), (M,), (D,), (M,))
    folder = root / "L15R"
    names = {"encoder.weight": We, "encoder.bias": be, "decoder.weight": Wd, "decoder.bias": bd}
    save(folder / "sae_weights.safetensors", {**names, "log_jumprelu_threshold": log_threshold})
    write_json(folder / "config.json", {"d_model": D, "expansion_factor": M // D, "hook_point_in": RESID})
    factor = 5.6

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        p = (x * factor) @ We.double().T + be
        z = torch.where(p > log_threshold.double().exp(), p, 0.0)
        return z, (z @ Wd.double().T + bd) / factor

    query = f"norm_scaling_factor={factor}"
    return Example("llama_scope_r1", folder, formula, RESID, RESID, "jumprelu", query)


def llamascopium(
    act_fn: str, norm: str, ending: str, *, by_norm: bool = True, transcoder: bool = False
) -> Callable[[Path], Example]:
    def make(root: Path) -> Example:
        We, Wd, be, bd, log_threshold = weights((D, M), (M, D), (M,), (D,), (M,))
        folder = root / f"{act_fn}-{norm}"
        sites = (MLP_IN, MLP_OUT) if transcoder else (RESID, RESID)
        norms = {sites[0]: 7.0, sites[1]: 11.0 if transcoder else 7.0}
        names = {"W_E": We, "b_E": be, "W_D": Wd, "b_D": bd}
        names |= {f"dataset_average_activation_norm.{site}": torch.tensor(value) for site, value in norms.items()}
        if act_fn == "jumprelu":
            names["activation_function.log_jumprelu_threshold"] = log_threshold
        pickled = ending == ".pt"
        save(folder / f"sae_weights{ending}", {"sae": names, "version": "2.0.0b34"} if pickled else names)
        settings = {
            "sae_type": "sae", "d_model": D, "expansion_factor": M / D, "act_fn": act_fn, "top_k": K,
            "norm_activation": norm, "sparsity_include_decoder_norm": by_norm, "use_decoder_bias": True,
            "use_glu_encoder": False, "hook_point_in": sites[0], "hook_point_out": sites[1],
        }  # fmt: skip
        write_json(folder / "config.json", settings)

        def formula(x: Tensor) -> tuple[Tensor, Tensor]:
            factors = {
                "dataset-wise": [D**0.5 / value for value in (norms[sites[0]], norms[sites[1]])],
                "token-wise": [D**0.5 / (x**2).sum(-1, keepdim=True).sqrt()] * 2,
                "inference": [1.0, 1.0],
            }[norm]
            size = (Wd.double() ** 2).sum(-1).sqrt() if by_norm else torch.ones(M, dtype=torch.float64)
            p = ((x * factors[0]) @ We.double() + be) * size
            if act_fn == "jumprelu":
                p = p * (p > log_threshold.double().exp())
            elif act_fn == "topk":
                p = keep_largest(p.clamp(min=0), K)
            z = p.clamp(min=0) / size
            return z, (z @ Wd.double() + bd) / factors[1]

        return Example("llamascopium", folder, formula, *sites, act_fn)

    return make


def scaled_topk(root: Path) -> Example:
    We, Wd, be, bd = weights((D, M), (M, D), (M,), (D,))
    scale = 0.25
    state = {"b_pre": bd, "W_enc": We, "b_enc": be, "W_dec": Wd}
    path = save(root / "layer_20.pt", {"state": state, "scale": scale, "k": K, "width": M, "tokens": 10**9})

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = keep_largest(((x * scale - bd) @ We.double() + be).clamp(min=0), K)
        return z, (z @ Wd.double() + bd) / scale

    return Example("scaled_topk", path, formula, RESID, RESID, "topk", f"hook={RESID}")


def variational(activation: str, *, april: bool) -> Callable[[Path], Example]:
    def make(root: Path) -> Example:
        We, Wd, be, bd, Wv, bv = weights((M, D), (D, M), (M,), (D,), (M, D), (M,))
        names = {"encoder.weight": We, "encoder.bias": be, "decoder.weight": Wd, "k": torch.tensor(K)}
        names |= {"decoder.bias": bd} if april else {"bias": bd}
        names |= {"var_encoder.weight": Wv, "var_encoder.bias": bv}
        save(root / "ae.pt", names)
        trainer = {"activation_dim": D, "dict_size": M, "layer": 3, "lm_name": "gpt2", "var_flag": 1}
        write_json(root / "config.json", {"trainer": trainer})

        def formula(x: Tensor) -> tuple[Tensor, Tensor]:
            mean = (x if april else x - bd) @ We.double().T + be
            mean = mean.clamp(min=0) if activation == "topk" else mean
            z = torch.where(keep_largest(mean.abs(), K) > 0, mean, 0.0)
            return z, z @ Wd.double().T + bd

        site = "blocks.3.hook_resid_post"
        return Example("vsae", root, formula, site, site, "vsae", f"activation={activation}")

    return make


EXAMPLES: dict[str, Callable[[Path], Example]] = {
    "openai_v5": openai("TopK"),
    "openai_v4": openai("ReLU"),
    "llama_scope_r1": llama_scope_r1,
    "llamascopium_jumprelu": llamascopium("jumprelu", "dataset-wise", ".safetensors"),
    "llamascopium_topk_of_tokens": llamascopium("topk", "token-wise", ".pt"),
    "llamascopium_topk": llamascopium("topk", "inference", ".pt", by_norm=False),
    "llamascopium_relu_transcoder": llamascopium("relu", "dataset-wise", ".safetensors", transcoder=True),
    "scaled_topk": scaled_topk,
    "vsae_topk": variational("topk", april=True),
    "vsae_abstopk": variational("abstopk", april=False),
}
