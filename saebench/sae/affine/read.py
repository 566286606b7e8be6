"""From files and a map to an SAE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.files import parse_json, read_small_text
from saebench.sae.affine.activations import (
    AbsTopK,
    Activation,
    GroupMax,
    InDecoderNorms,
    JumpReLU,
    ReLU,
    SignedTopK,
    TopK,
)
from saebench.sae.affine.adapter import AffineSAE
from saebench.sae.affine.map import Format, FormatMap
from saebench.sae.affine.map import Tensor as TensorRule
from saebench.sae.affine.normalisation import LayerNorm, Normalisation, NormRescale
from saebench.sae.affine.values import Values
from saebench.sae.affine.weights import Weights
from saebench.sae.hook import HookSite
from saebench.sae.modules import site_of_module
from saebench.sae.tensor_files import read_after_json, read_tensors
from saebench.yaml_file import parse_yaml

_SHOWN = {"signed_topk": "topk"}  # what tables call an activation function, where it is not its name
_NEARLY_UNIT = 0.05
_SELECTING: dict[str, type[TopK] | type[GroupMax]] = {
    "topk": TopK,
    "signed_topk": SignedTopK,
    "abstopk": AbsTopK,
    "groupmax": GroupMax,
}


def read_affine(path: Path, variants: Format, name: str, options: Mapping[str, Any]) -> AffineSAE:
    """Return the SAE in a folder or file.

    Args:
        path: The folder, or the file of weights itself.
        variants: The map of its format.
        name: The reference.
        options: What the reference says in place of the files: ``hook``, ``hook_out``, ``k``, ``layer``,
            ``activation``, ``threshold`` and ``norm_scaling_factor``; and ``default_hook``, the hook point of SAEs that
            name none.

    Raises:
        SAELoadError: A file is missing or damaged, or something that the map names is missing or of a wrong kind.
    """
    weights_file = find_file(path, variants[0].weights, name, "file of weights")
    if variants[0].json_line:
        config, content = read_after_json(weights_file, name)
    else:
        content = read_tensors(weights_file, name)
        config = read_config(weights_file, variants[0].config, name)
    content = _within(content, variants[0], name)
    values = Values(config, content, weights_file.absolute().as_posix())
    try:
        for refusal in variants[0].refused:
            if values.holds(refusal.when):
                raise SAELoadError(refusal.why)
        described = next((variant for variant in variants if values.holds(variant.when)), None)
        if described is None:
            raise SAELoadError("it is of none of the variants that the map of this format knows")
        return _build(described, content, values, name, options)
    except SAELoadError as error:
        text = str(error)
        raise SAELoadError(text if text.startswith(name) else f"{name}: {text}.") from error


def find_file(path: Path, patterns: tuple[str, ...], name: str, what: str) -> Path:
    """Return the one file that a reference means. Raises SAELoadError where there is none, or more than one."""
    if path.is_file():
        return path
    for pattern in patterns:
        files = sorted(file for file in path.glob(pattern) if file.is_file())
        if len(files) == 1:
            return files[0]
        if files:
            raise SAELoadError(
                f"{name}: {path} holds {len(files)} files that could be the {what}, such as {files[0].name}; name one "
                "in the reference."
            )
    raise SAELoadError(f"{name}: {path} holds no {what} ({' or '.join(patterns)}).")


def read_config(weights_file: Path, patterns: tuple[str, ...], name: str) -> dict[str, Any]:
    """Return the content of the config file beside the weights; empty where there is none.

    Raises SAELoadError for one that is damaged.
    """
    folder = weights_file.parent
    for pattern in patterns:
        pattern = pattern.replace("{stem}", weights_file.stem)
        base, pattern = (folder.parent, pattern[3:]) if pattern.startswith("../") else (folder, pattern)
        files = [base / pattern] if not _is_pattern(pattern) else sorted(base.glob(pattern))
        for file in files:
            if file.exists():
                return _read_config_file(file, name)
    return {}


def _is_pattern(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _read_config_file(file: Path, name: str) -> dict[str, Any]:
    text = read_small_text(file, "config file", SAELoadError)
    if file.suffix in (".yaml", ".yml"):
        config = parse_yaml(text, f"{name}: {file.name}", SAELoadError, text_keys=False)
    else:
        config = parse_json(text, f"{name}: {file.name}", SAELoadError)
    if not isinstance(config, dict):
        raise SAELoadError(f"{name}: {file.name} must hold an object, not {type(config).__name__}.")
    return config


def _within(content: dict[str, Any], described: FormatMap, name: str) -> dict[str, Any]:
    if described.within is None or described.tensors.W_enc.key in content:
        return content
    inner = content.get(described.within)
    if not isinstance(inner, Mapping):
        raise SAELoadError(
            f"{name}: the file holds no {described.within!r}, under which the weights of this format lie."
        )
    return {**content, **{str(key): value for key, value in inner.items()}}


def _build(
    described: FormatMap, content: Mapping[str, Any], values: Values, name: str, options: Mapping[str, Any]
) -> AffineSAE:
    rules = described.tensors
    W_enc, W_dec = _required(content, rules.W_enc, "W_enc"), _required(content, rules.W_dec, "W_dec")
    if W_enc.ndim != 2 or W_dec.ndim != 2:
        raise SAELoadError(f"W_enc {list(W_enc.shape)} and W_dec {list(W_dec.shape)} must be matrices")
    b_dec = _optional(content, rules.b_dec, "b_dec")
    b_dec = torch.zeros(W_dec.shape[1]) if b_dec is None else b_dec
    pre_bias = b_dec if rules.pre_bias == "b_dec" else None
    if isinstance(rules.pre_bias, TensorRule):
        pre_bias = _optional(content, rules.pre_bias, "pre_bias")
    b_enc = _optional(content, rules.b_enc, "b_enc")
    weights = Weights(
        W_enc=W_enc,
        b_enc=torch.zeros(W_enc.shape[1]) if b_enc is None else b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        pre_bias=pre_bias,
        W_skip=_optional(content, rules.W_skip, "W_skip"),
    )
    weights.check_shapes()
    for what in ("d_in", "d_sae"):
        said = values.count(getattr(described, what), what)
        if said is not None and said != getattr(weights, what):
            raise SAELoadError(
                f"its config says {what}={said}, but W_enc [d_in, d_sae] has the shape {list(weights.W_enc.shape)}; "
                "use files that belong together"
            )
    units = values.text(described.activation.decoder_norm, "unit of the threshold")
    norms = weights.W_dec.norm(dim=-1)
    weights = weights.in_decoder_norms() if units == "trained" else weights
    weights = _scaled(weights, described, values, options)
    weights = weights.in_decoder_norms() if units == "raw" else weights
    kind = _kind(described, values, options)
    if kind == "gated":
        gate = [_required(content, getattr(rules, key), key) for key in ("r_mag", "b_gate", "b_mag")]
        weights, activation = _gated(weights, *gate)
    else:
        activation = _activation(described, kind, content, values, options)
    activation = InDecoderNorms(activation, norms) if units == "selection" else activation
    hook = _hook(described, values, options)
    return AffineSAE(
        weights,
        activation,
        name=name,
        architecture=values.text(described.architecture, "architecture") or _SHOWN.get(kind, kind),
        hook=hook,
        normalisation=_normalisation(described, values, hook),
        model_name=values.text(described.model, "language model"),
        weights_dtype=str(W_enc.dtype).removeprefix("torch."),
    )


def _gated(weights: Weights, r_mag: Tensor, b_gate: Tensor, b_mag: Tensor) -> tuple[Weights, Activation]:
    return weights.gated(r_mag, b_gate, b_mag)


def _scaled(weights: Weights, described: FormatMap, values: Values, options: Mapping[str, Any]) -> Weights:
    if (named := options.get("norm_scaling_factor")) is not None:
        return weights.scaled(named)
    scale = described.scale
    if scale is None or not values.holds(scale.when):
        return weights
    factor = values.number(scale.factor, "scale")
    norm, norm_out = (values.number(rule, "activation norm") for rule in (scale.norm, scale.norm_out))
    factor_out = values.number(scale.factor_out, "scale of the target")
    if norm is not None:
        for what, value in (("input", norm), ("target", norm_out)):
            if value is not None and not value > 0:
                raise SAELoadError(f"the mean norm of its {what} must be above 0, not {value:g}")
        factor = weights.d_in**0.5 / norm
        factor_out = None if norm_out is None else weights.d_out**0.5 / norm_out
    if factor is None:
        raise SAELoadError(
            "the factor by which its training scaled the activations is not stored; add ?norm_scaling_factor=FACTOR to "
            "the reference"
        )
    if not factor > 0 or (factor_out is not None and not factor_out > 0):
        raise SAELoadError(f"the factor by which its training scaled the activations must be above 0, not {factor:g}")
    return weights.scaled(factor, factor_out)


def _kind(described: FormatMap, values: Values, options: Mapping[str, Any]) -> str:
    """Return the name of the activation function: that of the reference, else that of the files."""
    kind = options.get("activation") or values.text(described.activation.kind, "activation function")
    if kind is not None:
        return str(kind)
    if described.activation.ask:
        raise SAELoadError(f"its activation function is not stored; {described.activation.ask}")
    if "threshold" in options:
        return "batchtopk"
    if "k" in options:
        return "topk"
    raise SAELoadError(
        "its activation function is not stored; add to the reference ?k=NUMBER for TopK, ?threshold=NUMBER for "
        "BatchTopK, or ?activation=relu"
    )


def _activation(
    described: FormatMap,
    kind: str,
    content: Mapping[str, Any],
    values: Values,
    options: Mapping[str, Any],
) -> Activation:
    rule = described.activation
    if kind == "relu":
        return ReLU()
    if kind in _SELECTING:
        k = options.get("k") or values.count(rule.k, "k")
        if k is None:
            raise SAELoadError("the number of active latents is not stored; add ?k=NUMBER to the reference")
        return _SELECTING[kind](k)
    if kind not in ("jumprelu", "batchtopk"):
        raise SAELoadError(f"its activation function {kind!r} is not known")
    if "threshold" in options:
        threshold: Tensor | None = torch.tensor(options["threshold"])
    else:
        threshold = _optional(content, described.tensors.threshold, "threshold")
    if threshold is None and (number := values.number(rule.threshold, "threshold")) is not None:
        threshold = torch.tensor(number)
    if kind == "batchtopk" and (threshold is None or not bool((threshold > 0).all())):
        raise SAELoadError(
            "its threshold was never estimated in training, or is not stored, so its latents are not defined for "
            "single tokens; train it longer, or estimate the threshold and add ?threshold=NUMBER to the reference"
        )
    if threshold is None:
        raise SAELoadError("it is a JumpReLU SAE without a threshold")
    inclusive = rule.inclusive if isinstance(rule.inclusive, bool) else kind in rule.inclusive
    return JumpReLU(threshold.squeeze(), inclusive=inclusive)


def _normalisation(described: FormatMap, values: Values, hook: HookSite) -> Normalisation | None:
    rule = described.normalisation
    kind = "none" if rule is None else values.text(rule.kind, "normalisation")
    if rule is None or kind in (None, "none"):
        return None
    if hook.site_in != hook.site_out and _flag(rule.undone, values, "undone"):
        raise SAELoadError(
            "it is a transcoder whose training scaled each token of its target by the norm of that token, which is not "
            "known when it is used, so it is refused"
        )
    if kind == "layer_norm":
        return LayerNorm(rule.eps, _flag(rule.undone, values, "undone"))
    if kind == "norm_rescale":
        return NormRescale()
    raise SAELoadError(f"its normalisation {kind!r} is not known")


def _hook(described: FormatMap, values: Values, options: Mapping[str, Any]) -> HookSite:
    if site := options.get("hook"):
        return HookSite(site, options.get("hook_out", site))
    return hook_of(described, values, options.get("layer"), options.get("default_hook"))


def hook_of(described: FormatMap, values: Values, layer: int | None, default: str | None = None) -> HookSite:
    """Return the hook that the rules of a map tell.

    Where none of them does, it is ``default``, unless SAEs of this format write elsewhere than they read. Raises
    SAELoadError where there is none.
    """
    layer_value = layer if layer is not None else values.number(described.layer, "layer")
    for rule in described.hooks:
        if not values.holds(rule.when):
            continue
        sites = [
            _site(values.text(side, "hook point"), layer_value, values)
            for side in (rule.site, rule.site_out or rule.site)
        ]
        if sites[0] is not None and sites[1] is not None:
            return HookSite(sites[0], sites[1])
    if default is not None and not any(rule.site_out for rule in described.hooks):
        return HookSite.at(default)
    raise SAELoadError("it does not say where it reads; add ?hook=blocks.9.hook_resid_post to the reference")


def _site(text: str | None, layer: float | None, values: Values) -> str | None:
    """Return the hook point of a template, or None where a value that it names is missing."""
    known = {} if layer is None else {"layer": str(int(layer))}
    filled = values.fill(text, known) if text is not None else None
    return None if filled is None else site_of_module(filled)


def _flag(rule: object, values: Values, what: str) -> bool:
    return bool(values.get(rule, what))


def _required(content: Mapping[str, Any], rule: TensorRule | None, what: str) -> Tensor:
    tensor = _optional(content, rule, what)
    if tensor is None:
        raise SAELoadError(f"the map names no {what}")
    return tensor


def _optional(content: Mapping[str, Any], rule: TensorRule | None, what: str) -> Tensor | None:
    if rule is None:
        return None
    value = content.get(rule.key)
    if value is None:
        if rule.optional:
            return None
        keys = ", ".join(map(str, list(content)[:12]))
        raise SAELoadError(f"the file holds no {rule.key} ({what}); it holds {keys}")
    if not isinstance(value, Tensor):
        raise SAELoadError(f"{rule.key} must be a tensor, not {type(value).__name__}")
    if not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        raise SAELoadError(f"{rule.key} holds numbers of type {kind}; weights must be floating-point numbers")
    tensor = value.detach().float()
    if rule.flatten and tensor.ndim > 2:
        tensor = tensor.flatten(0, -2)
    if rule.unit_rows and tensor.ndim == 2:
        norms = tensor.norm(dim=-1, keepdim=True)
        tensor = tensor / norms if bool(((norms - 1).abs() < _NEARLY_UNIT).all()) else tensor
    if rule.log_factor is not None and isinstance(factor := content.get(rule.log_factor), Tensor):
        if factor.numel() != 1:
            raise SAELoadError(f"{rule.log_factor} must hold one number, not {list(factor.shape)}")
        tensor = tensor * factor.detach().float().reshape(()).exp()
    if rule.transpose:
        tensor = tensor.mT if tensor.ndim > 1 else tensor
    return tensor.exp() if rule.exp else tensor
