"""Files of crosscoders and cross-layer transcoders, and what their formulas give, written out in float64.

The formulas stand here a second time, and in another way than in the adapters: from the raw content of the files,
layer by layer, without folding anything into the weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

L, D, M, K = 3, 16, 24, 5
Formula = Callable[[list[Tensor]], tuple[Tensor, list[Tensor]]]  # x of each site -> (z, xhat of each site), in float64
SITES = "blocks.0-2.hook_resid_post"
IN, OUT = [f"blocks.{n}.hook_resid_mid" for n in range(L)], [f"blocks.{n}.hook_mlp_out" for n in range(L)]
CLT = "blocks.0-2.hook_resid_mid->blocks.0-2.hook_mlp_out"


@dataclass(frozen=True)
class Example:
    """An SAE in a format.

    Attributes:
        reference: A reference to it.
        formula: What the source library computes.
        hook: Where it reads and writes.
        architecture: What tables call it.
        sites: How many hook points it reads.
    """

    reference: str
    formula: Formula
    hook: str
    architecture: str
    sites: int = L


class Draw:
    """Random weights, one after the other."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=self._generator) * scale

    def positive(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator) + 0.5


def save(path: Path, tensors: Mapping[str, Any], **config: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    else:
        torch.save(dict(tensors), path)
    if config:
        name = config.pop("config_name", "config.json")
        (path.parent / name).write_text(json.dumps(config), encoding="utf-8")
    return path


def keep_largest(p: Tensor, k: int) -> Tensor:
    order = p.argsort(dim=-1, descending=True)
    return torch.where(order.argsort(dim=-1) < k, p, torch.zeros_like(p))


# ---------------------------------------------------------------- crosscoders


def nanda(folder: Path) -> Example:
    draw, factors = Draw(), (0.3, 0.5)
    W_enc, W_dec, b_enc, b_dec = draw(2, D, M), draw(M, 2, D), draw(M), draw(2, D)
    weights = {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec}
    config = {"d_in": D, "dict_size": M, "hook_point": "blocks.1.hook_resid_pre", "enc_dtype": "fp32"}
    save(folder / "cc_weights.pt", weights, config_name="cfg.json", **config)

    def formula(x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        z = (sum(factors[m] * x[m] @ W_enc[m].double() for m in range(2)) + b_enc.double()).relu()
        return z, [(z @ W_dec[:, m].double() + b_dec[m].double()) / factors[m] for m in range(2)]

    hook = "blocks.1.hook_resid_pre@A+blocks.1.hook_resid_pre@B"
    reference = f"nanda_crosscoder:{folder}?norm_scaling_factor=0.3+0.5"
    return Example(reference, formula, hook, "crosscoder-relu", sites=2)


def nanda_of_layers(folder: Path) -> Example:
    example = nanda(folder)
    (folder / "cc_weights.pt").rename(folder / "3.pt")
    (folder / "cfg.json").rename(folder / "3_cfg.json")
    hook = "blocks.0,2.hook_resid_pre"
    reference = f"nanda_crosscoder:{folder / '3.pt'}?norm_scaling_factor=0.3+0.5&hook={hook}"
    return Example(reference, example.formula, hook, "crosscoder-relu", sites=2)


def finetuning(
    folder: Path,
    code: str | None = None,
    *,
    normalised: bool = False,
    threshold: float | None = None,
    read: tuple[int, ...] = (0, 1, 2),
    pickled: bool = False,
) -> Example:
    """A CrossCoder, or a BatchTopKCrossCoder where there is a threshold."""
    draw = Draw(1)
    W_enc, b_enc, W_dec, b_dec = draw(len(read), D, M), draw(M), draw(L, M, D), draw(L, D)
    mean, std = draw(L, D), draw.positive(L, D)
    scale = 2.0 / (std.square().sum(-1) + 1e-8).sqrt()
    names = ("CROSSCODER", "SAE", "MIXED", "NONE", "DECOUPLED")
    tensors = {"encoder.weight": W_enc, "encoder.bias": b_enc, "decoder.weight": W_dec, "decoder.bias": b_dec}
    if code is not None:
        tensors["code_normalization_id"] = torch.tensor(names.index(code) + 1)
    absent = torch.full((L, D), torch.nan)
    tensors |= {
        "activation_mean": mean if normalised else absent,
        "activation_std": std if normalised else absent.clone(),
    }
    tensors |= {"activation_global_scale": scale if normalised else torch.ones(L), "target_rms": torch.tensor(2.0)}
    decoupled = code == "DECOUPLED"
    if threshold is not None:
        several = threshold * torch.arange(1.0, L + 1)
        tensors |= {"threshold": several if decoupled else torch.tensor(threshold), "k": torch.tensor(7)}
    config: dict[str, Any] = {"activation_dim": D, "dict_size": M, "num_layers": L, "model_name": "tiny"}
    if len(read) < L:
        config["encoder_layers"] = list(read)
    if pickled:
        save(folder / "cc.pt", {f"_orig_mod.{key}": value for key, value in tensors.items()})
    else:
        save(folder / "model.safetensors", tensors, **config)
    norms = W_dec.double().norm(dim=2)
    codes = {"SAE": norms.square().sum(0).sqrt(), "NONE": torch.ones(M)}
    codes["MIXED"] = codes["SAE"] + 0.1 * norms.sum(0)

    def normal(x: Tensor, site: int) -> Tensor:
        return (x - mean[site].double()) * scale[site].double() if normalised else x

    def formula(x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        inputs = [normal(x[number], site) for number, site in enumerate(read)]
        if decoupled and threshold is not None:  # the library normalises what it has normalised already
            inputs = [normal(value, site) for value, site in zip(inputs, read, strict=True)]
        f = (sum(value @ W_enc[n].double() for n, value in enumerate(inputs)) + b_enc.double()).relu()
        if threshold is None:
            z, parts = f, [f] * L
        elif decoupled:
            parts = [f * (f * norms[site] > threshold * (site + 1)) for site in range(L)]
            z = torch.cat(parts, -1)
        else:
            z = f * (f * codes.get(code or "", norms.sum(0)) > threshold)
            parts = [z] * L
        xhat = [part @ W_dec[site].double() + b_dec[site].double() for site, part in enumerate(parts)]
        if normalised:
            xhat = [y / (scale[site].double() + 1e-8) + mean[site].double() for site, y in enumerate(xhat)]
        return z, xhat

    kind = "relu" if threshold is None else "batchtopk-decoupled" if decoupled else "batchtopk"
    hook = SITES if len(read) == L else f"blocks.{','.join(map(str, read))}.hook_resid_post->{SITES}"
    path = folder / "cc.pt" if pickled else folder
    return Example(f"finetuning_crosscoder:{path}?hook={SITES}", formula, hook, f"crosscoder-{kind}", sites=len(read))


def lm_saes(folder: Path, act: str, *, scaled: bool = True, **settings: Any) -> Example:
    """A crosscoder of llamascopium."""
    draw, sites = Draw(2), [f"blocks.{n}.hook_resid_post" for n in range(L)]
    W_E, b_E, W_D, b_D = draw(L, D, M), draw(L, M), draw(L, M, D), draw(L, D)
    log_threshold, norm = draw(M, scale=0.3), [3.0, 5.0, 7.0]
    tensors = {"W_E": W_E, "b_E": b_E, "W_D": W_D, "b_D": b_D}
    if act == "jumprelu":
        tensors["activation_function.log_jumprelu_threshold"] = log_threshold
    if scaled:
        tensors |= {f"dataset_average_activation_norm.{s}": torch.tensor(n) for s, n in zip(sites, norm, strict=True)}
    config = {"sae_type": "crosscoder", "d_model": D, "expansion_factor": M / D, "act_fn": act, "top_k": K}
    config |= {"hook_points": sites, "norm_activation": "dataset-wise" if scaled else "inference", **settings}
    save(folder / "sae_weights.safetensors", tensors, **config)
    factors = [D**0.5 / n if scaled else 1.0 for n in norm]
    decoder_norms = W_D.double().norm(dim=-1)

    def gate(p: Tensor) -> Tensor:
        if act == "jumprelu":
            return p * (p > log_threshold.double().exp())
        return p.relu() if act == "relu" else keep_largest(p, K).relu()

    def formula(x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        p = sum(factors[n] * x[n] @ W_E[n].double() + b_E[n].double() for n in range(L))
        parts = [gate(p * decoder_norms[n]) / decoder_norms[n] for n in range(L)]
        xhat = [(parts[n] @ W_D[n].double() + b_D[n].double()) / factors[n] for n in range(L)]
        return (parts[0] if act == "relu" else torch.cat(parts, -1)), xhat

    return Example(f"llamascopium_crosscoder:{folder}", formula, SITES, f"crosscoder-{act}")


# ---------------------------------------------------------------- cross-layer transcoders


def clt_formula(
    encode: Callable[[Tensor, int], Tensor],
    act: Callable[[list[Tensor]], list[Tensor]],
    decode: Callable[[list[Tensor], int], Tensor],
) -> Formula:
    def formula(x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        z = act([encode(x[layer], layer) for layer in range(L)])
        return torch.cat(z, -1), [decode(z, target) for target in range(L)]

    return formula


def lm_saes_clt(folder: Path, act: str, *, by_norm: bool = True, pickled: bool = False) -> Example:
    draw = Draw(3)
    W_E, b_E, log_threshold = draw(L, D, M), draw(L, M), draw(L, M, scale=0.3)
    W_D, b_D = [draw(to + 1, M, D) for to in range(L)], [draw(D) for _ in range(L)]
    norms = {site: float(n) for n, site in enumerate(IN + OUT, start=3)}
    tensors = {"W_E": W_E, "b_E": b_E, **{f"W_D.{n}": w for n, w in enumerate(W_D)}}
    tensors |= {f"b_D.{n}": b for n, b in enumerate(b_D)}
    tensors |= {f"dataset_average_activation_norm.{site}": torch.tensor(n) for site, n in norms.items()}
    if act == "jumprelu":
        tensors["activation_function.log_jumprelu_threshold"] = log_threshold
    config = {"sae_type": "clt", "d_model": D, "expansion_factor": M / D, "act_fn": act, "top_k": K}
    config |= {"hook_points_in": IN, "hook_points_out": OUT, "sparsity_include_decoder_norm": by_norm}
    if pickled:
        save(folder / "sae_weights.pt", {"sae": tensors, "version": "2"}, **config)
    else:
        save(folder / "sae_weights.safetensors", tensors, **config)
    factor = {site: D**0.5 / n for site, n in norms.items()}
    writes = [
        sum(W_D[to][source].double().square().sum(-1) for to in range(source, L)).sqrt() if by_norm else torch.ones(M)
        for source in range(L)
    ]

    def select(p: list[Tensor]) -> list[Tensor]:
        p = [value * writes[layer] for layer, value in enumerate(p)]
        if act == "jumprelu":
            z = [value * (value > log_threshold[layer].double().exp()) for layer, value in enumerate(p)]
        elif act == "topk":
            z = [keep_largest(value, K).relu() for value in p]
        elif act == "layertopk":
            z = list(keep_largest(torch.cat(p, -1), K).relu().split(M, -1))
        else:
            z = [value.relu() for value in p]
        return [value / writes[layer] for layer, value in enumerate(z)]

    formula = clt_formula(
        lambda x, layer: factor[IN[layer]] * x @ W_E[layer].double() + b_E[layer].double(),
        select,
        lambda z, to: (sum(z[n] @ W_D[to][n].double() for n in range(to + 1)) + b_D[to].double()) / factor[OUT[to]],
    )
    return Example(f"llamascopium_clt:{folder}", formula, CLT, f"clt-{act}")


def circuit_tracer(folder: Path, *, jump: bool, dtype: torch.dtype = torch.float32) -> Example:
    draw = Draw(4)
    W_enc = [draw(M, D).to(dtype) for _ in range(L)]
    W_dec = [draw(M, L - n, D).to(dtype) for n in range(L)]
    b_enc, b_dec, threshold = draw(L, M).to(dtype), draw(L, D).to(dtype), draw.positive(L, M).to(dtype)
    for n in range(L):
        part = {f"W_enc_{n}": W_enc[n], f"b_enc_{n}": b_enc[n], f"b_dec_{n}": b_dec[n]}
        part |= {f"threshold_{n}": threshold[n]} if jump else {}
        save(folder / f"W_enc_{n}.safetensors", part)
        save(folder / f"W_dec_{n}.safetensors", {f"W_dec_{n}": W_dec[n]})
    hooks = "feature_input_hook: hook_resid_mid\nfeature_output_hook: hook_mlp_out\n"
    (folder / "config.yaml").write_text(f"model_name: tiny\nmodel_kind: cross_layer_transcoder\n{hooks}")
    formula = clt_formula(
        lambda x, n: x @ W_enc[n].double().T + b_enc[n].double(),
        lambda p: [v * (v > threshold[n].double()) if jump else v.relu() for n, v in enumerate(p)],
        lambda z, to: sum(z[n] @ W_dec[n][:, to - n].double() for n in range(to + 1)) + b_dec[to].double(),
    )
    return Example(f"circuit_tracer_clt:{folder}", formula, CLT, "clt-jumprelu" if jump else "clt-relu")


def gemma_scope(folder: Path, *, skip: bool) -> Example:
    draw = Draw(5)
    files = []
    for n in range(L):
        part = {"w_enc": draw(D, M), "w_dec": draw(M, L, D), "b_enc": draw(M), "b_dec": draw(D)}
        part |= {"threshold": draw.positive(M)} | ({"affine_skip_connection": draw(D, D)} if skip else {})
        files.append(part)
        save(folder / f"params_layer_{n}.safetensors", part)

    def decode(z: list[Tensor], to: int) -> Tensor:
        return sum(z[n] @ files[n]["w_dec"][:, to].double() for n in range(to + 1)) + files[to]["b_dec"].double()

    def formula(x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        p = [x[n] @ files[n]["w_enc"].double() + files[n]["b_enc"].double() for n in range(L)]
        z = [value * (value > files[n]["threshold"].double()) for n, value in enumerate(p)]
        xhat = [decode(z, to) for to in range(L)]
        if skip:
            xhat = [y + x[n] @ files[n]["affine_skip_connection"].double() for n, y in enumerate(xhat)]
        return torch.cat(z, -1), xhat

    hook = "blocks.0-2.mlp.hook_in->blocks.0-2.hook_mlp_out"
    return Example(f"gemma_scope_2_clt:{folder}", formula, hook, "clt-jumprelu")


def crosslayer(
    folder: Path,
    tying: str,
    act: str,
    *,
    extras: bool = False,
    skip: bool = False,
    scaling: str = "none",
    ending: str = "safetensors",
) -> Example:
    """A CLT of crosslayer-coding; ``extras`` are the offset and the scale of latents for each target."""
    draw = Draw(6)
    tensors: dict[str, Tensor] = {}
    for n in range(L):
        tensors[f"encoder_module.encoders.{n}.weight"] = draw(M, D)
        tensors[f"encoder_module.encoders.{n}.bias_param"] = draw(M)
    pairs = [(s, t) for t in range(L) for s in range(t + 1)]
    keys = [f"{s}->{t}" for s, t in pairs] if tying == "none" else [str(n) for n in range(L)]
    for key in keys:
        tensors[f"decoder_module.decoders.{key}.weight"] = draw(D, M)
        tensors[f"decoder_module.decoders.{key}.bias_param"] = draw(D)
        if skip:
            tensors[f"decoder_module.skip_weights.{key}"] = draw(D, D)
    if act == "jumprelu":
        tensors["theta_manager.log_threshold"] = draw(L, M, scale=0.3)
    for n in range(L) if extras else ():
        tensors[f"decoder_module.feature_offset.{n}"] = draw(M)
        tensors[f"decoder_module.feature_scale.{n}"] = draw.positive(M)
    config = {"num_features": M, "num_layers": L, "d_model": D, "activation_fn": act, "decoder_tying": tying}
    config |= {"skip_connection": skip, "normalization_method": scaling, "model_name": "tiny"}
    config |= {"enable_feature_offset": extras, "enable_feature_scale": extras, "config_name": "cfg.json"}
    config |= {"tl_input_template": "blocks.{}.hook_resid_mid", "tl_output_template": "blocks.{}.hook_mlp_out"}
    save(folder / f"clt_checkpoint_latest.{ending}", tensors, **config)
    stats = {side: (draw(L, D), draw.positive(L, D)) for side in ("inputs", "targets")}
    if scaling == "mean_std":
        content = {
            n: {side: {"mean": mean[n].tolist(), "std": std[n].tolist()} for side, (mean, std) in stats.items()}
            for n in range(L)
        }
        (folder / "norm_stats.json").write_text(json.dumps(content))
    w = {key: tensor.double() for key, tensor in tensors.items()}

    def moved(z: Tensor, to: int) -> Tensor:
        if not extras:
            return z
        offset, scale = (w[f"decoder_module.feature_{what}.{to}"] for what in ("offset", "scale"))
        return torch.where(z != 0, (z + offset) * scale, 0.0)

    def decoder(z: Tensor, key: str) -> Tensor:
        return z @ w[f"decoder_module.decoders.{key}.weight"].T + w[f"decoder_module.decoders.{key}.bias_param"]

    def decode(z: list[Tensor], x: list[Tensor], to: int) -> Tensor:
        if tying == "per_target":
            y = decoder(sum(moved(z[s], to) for s in range(to + 1)), str(to))
        else:
            y = sum(decoder(moved(z[s], to), f"{s}->{to}" if tying == "none" else str(s)) for s in range(to + 1))
        if skip:
            sources = range(to + 1) if tying == "none" else (to,)
            for s in sources:
                key = f"{s}->{to}" if tying == "none" else str(to)
                y = y + x[s] @ w[f"decoder_module.skip_weights.{key}"].T
        return y

    def formula(x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        if scaling == "mean_std":
            mean, std = stats["inputs"]
            x = [(value - mean[n].double()) / (std[n].double() + 1e-6) for n, value in enumerate(x)]
        elif scaling == "sqrt_d_model":
            x = [value * D**0.5 for value in x]
        p = [x[n] @ w[f"encoder_module.encoders.{n}.weight"].T for n in range(L)]
        p = [value + w[f"encoder_module.encoders.{n}.bias_param"] for n, value in enumerate(p)]
        if act == "jumprelu":
            theta = w["theta_manager.log_threshold"].exp()
            z = [value * (value >= theta[n]) for n, value in enumerate(p)]
        else:
            z = [value.relu() for value in p]
        xhat = [decode(z, x, to) for to in range(L)]
        if scaling == "mean_std":
            mean, std = stats["targets"]
            xhat = [y * (std[n].double() + 1e-6) + mean[n].double() for n, y in enumerate(xhat)]
        elif scaling == "sqrt_d_model":
            xhat = [y / D**0.5 for y in xhat]
        return torch.cat(z, -1), xhat

    return Example(f"crosslayer_coding:{folder}", formula, CLT, f"clt-{act}")


EXAMPLES: dict[str, Callable[[Path], Example]] = {
    "nanda": nanda,
    "nanda-layers": nanda_of_layers,
    "finetuning-relu": finetuning,
    "finetuning-relu-normalised": lambda p: finetuning(p, "SAE", normalised=True),
    "finetuning-decoupled-without-threshold": lambda p: finetuning(p, "DECOUPLED", normalised=True),
    "finetuning-some-layers": lambda p: finetuning(p, "SAE", normalised=True, read=(0, 2)),
    "finetuning-old-pickle": lambda p: finetuning(p, threshold=30.0, pickled=True),
    **{
        f"finetuning-batchtopk-{code}": lambda p, code=code, theta=theta: finetuning(
            p, code, normalised=True, threshold=theta
        )
        for code, theta in (("CROSSCODER", 9.0), ("SAE", 6.0), ("MIXED", 6.0), ("NONE", 1.0), ("DECOUPLED", 3.0))
    },
    **{f"lm-saes-crosscoder-{act}": lambda p, act=act: lm_saes(p, act) for act in ("relu", "jumprelu", "topk")},
    "lm-saes-crosscoder-inference": lambda p: lm_saes(p, "jumprelu", scaled=False),
    **{
        f"lm-saes-clt-{act}": lambda p, act=act: lm_saes_clt(p, act)
        for act in ("relu", "jumprelu", "topk", "layertopk")
    },
    "lm-saes-clt-without-norms": lambda p: lm_saes_clt(p, "jumprelu", by_norm=False),
    "lm-saes-clt-pickle": lambda p: lm_saes_clt(p, "jumprelu", pickled=True),
    "circuit-tracer-relu": lambda p: circuit_tracer(p, jump=False),
    "circuit-tracer-jumprelu": lambda p: circuit_tracer(p, jump=True),
    "circuit-tracer-bfloat16": lambda p: circuit_tracer(p, jump=True, dtype=torch.bfloat16),
    "gemma-scope-2": lambda p: gemma_scope(p, skip=False),
    "gemma-scope-2-skip": lambda p: gemma_scope(p, skip=True),
    "crosslayer-relu": lambda p: crosslayer(p, "none", "relu"),
    "crosslayer-jumprelu-skip": lambda p: crosslayer(p, "none", "jumprelu", skip=True),
    "crosslayer-per-source": lambda p: crosslayer(p, "per_source", "jumprelu", extras=True, skip=True),
    "crosslayer-per-target": lambda p: crosslayer(p, "per_target", "relu", extras=True, scaling="sqrt_d_model"),
    "crosslayer-mean-std": lambda p: crosslayer(p, "none", "jumprelu", skip=True, scaling="mean_std"),
    "crosslayer-pickle": lambda p: crosslayer(p, "per_source", "relu", ending="pt"),
}
