"""Where the files of each format are, and which hook points they tell, without reading weights."""

from __future__ import annotations

import math
from pathlib import Path

from saebench.errors import SAELoadError
from saebench.files import read_json
from saebench.sae.hook import HookSite, of_model
from saebench.sae.several.formats import (
    Files,
    Options,
    by_layer,
    hook_of,
    in_every_block,
    one_file,
    site_list,
    yaml_config,
)

# ------------------------------------------------------------------ Neel Nanda's and Connor Kissane's crosscoders

_MODELS = ("A", "B")  # what their code calls the two language models; it always has two


def find_nanda(path: Path, name: str, options: Options) -> Files:
    """``cc_weights.pt`` and ``cfg.json`` of the hub, or ``N.pt`` and ``N_cfg.json`` of a training run."""
    weights = ("cc_weights.pt", "*.pt", "*.safetensors")
    return one_file(path, name, options, weights, ("{stem}_cfg.json", "cfg.json"))


def hook_of_nanda(files: Files) -> HookSite:
    """One hook point in two language models, unless the reference names hook points of one model."""
    site = files.setting("hook_point", str)
    return hook_of(files, None if site is None else [of_model(site, model) for model in _MODELS])


def factors(text: str) -> tuple[float, ...]:
    """Read the option ``norm_scaling_factor``. Raises ValueError for a text that is no list of numbers above 0."""
    numbers = tuple(float(part) for part in text.split("+"))
    if not (text.isascii() and all(number > 0 and math.isfinite(number) for number in numbers)):
        raise ValueError(text)
    return numbers


# ------------------------------------------------------------------ dictionary_learning of science-of-finetuning


def find_finetuning(path: Path, name: str, options: Options) -> Files:
    """``model.safetensors`` and ``config.json`` of the hub, or a pickled state dict."""
    weights = ("model.safetensors", "ae.pt", "*.safetensors", "*.pt")
    return one_file(path, name, options, weights, ("config.json",))


def hook_of_finetuning(files: Files) -> HookSite:
    """The hook points of the reference; ``encoder_layers`` of the config file says which of them are read."""
    hook = hook_of(files, None)
    read = encoder_layers(files)
    if read is None or "hook_out" in files.options:
        return hook
    if max(read) >= len(hook.sites_in):
        raise SAELoadError(
            f"{files.name}: its encoder reads the hook points number {', '.join(map(str, read))}, counted from 0, and "
            f"the reference names only {len(hook.sites_in)}; name all of them with ?hook=."
        )
    return HookSite([hook.sites_in[number] for number in read], hook.sites_out)


def encoder_layers(files: Files) -> list[int] | None:
    """Which of the hook points the encoder reads, if not all of them. Raises SAELoadError for anything else."""
    read = files.setting("encoder_layers", list)
    if read is not None and (not read or not all(type(number) is int and number >= 0 for number in read)):
        raise SAELoadError(f"{files.name}: its setting encoder_layers must list numbers from 0 on, not {read!r:.60}.")
    return read


# ------------------------------------------------------------------ lm-saes and llamascopium

_LLAMASCOPIUM = (
    "sae_weights.safetensors",
    "sae_weights.pt",
    *(f"checkpoints/{stage}.{ending}" for stage in ("pruned", "final") for ending in ("safetensors", "pt")),
)


def find_llamascopium(path: Path, name: str, options: Options) -> Files:
    """The first file of weights that the library itself would take, and ``config.json`` of the folder."""
    if (path / "sae_weights.dcp").exists() and not any((path / file).exists() for file in _LLAMASCOPIUM):
        raise SAELoadError(
            f"{name}: {path} holds only a distributed checkpoint (.dcp); load it with llamascopium, and save it as "
            "sae_weights.safetensors."
        )
    return one_file(path, name, options, _LLAMASCOPIUM, ("config.json", "../config.json"))


def hook_of_llamascopium(files: Files, kind: str) -> HookSite:
    """The lists of hook points of the config file. Raises SAELoadError for another ``sae_type`` than ``kind``."""
    if (is_kind := files.setting("sae_type", str)) != kind:
        raise SAELoadError(f"{files.name}: its config.json says sae_type {is_kind!r}, and {kind!r} is expected.")
    if kind == "crosscoder":
        return hook_of(files, site_list(files, "hook_points"))
    return hook_of(files, site_list(files, "hook_points_in"), site_list(files, "hook_points_out"))


# ------------------------------------------------------------------ circuit-tracer


def find_circuit_tracer(path: Path, name: str, options: Options) -> Files:
    """``W_enc_N.safetensors`` and ``W_dec_N.safetensors`` for each layer N, and ``config.yaml``."""
    encoders, decoders = by_layer(path, "W_enc_*.safetensors", name), by_layer(path, "W_dec_*.safetensors", name)
    if len(encoders) != len(decoders):
        raise SAELoadError(f"{name}: {path} holds {len(encoders)} encoders and {len(decoders)} decoders.")
    config = yaml_config(path, name)
    if config.get("model_kind", "cross_layer_transcoder") != "cross_layer_transcoder":
        raise SAELoadError(
            f"{name}: its config.yaml says model_kind {config['model_kind']!r:.60}; use circuit_tracer:."
        )
    return Files(name, encoders + decoders, config, options)


def hook_of_circuit_tracer(files: Files) -> HookSite:
    """The hook points that ``config.yaml`` names, in every block."""
    sides = [files.setting(key, str) for key in ("feature_input_hook", "feature_output_hook")]
    layers = len(files.weights) // 2
    sites_in, sites_out = (None if side is None else in_every_block(side, layers) for side in sides)
    return hook_of(files, sites_in, sites_out)


# ------------------------------------------------------------------ Gemma Scope 2


def find_gemma_scope(path: Path, name: str, options: Options) -> Files:
    """One safetensors file for each layer, whose name ends with the number of the layer, and ``config.json``."""
    config = path / "config.json"
    content = read_json(config, "config file", SAELoadError) if config.exists() else {}
    return Files(name, by_layer(path, "*.safetensors", name), content if isinstance(content, dict) else {}, options)


def hook_of_gemma_scope(files: Files) -> HookSite:
    """Return the hook of all MLPs: each reads after the norm with its gain, and writes the output of the MLP."""
    layers = len(files.weights)
    return hook_of(files, in_every_block("mlp.hook_in", layers), in_every_block("hook_mlp_out", layers))


# ------------------------------------------------------------------ crosslayer-coding


def find_crosslayer(path: Path, name: str, options: Options) -> Files:
    """A consolidated checkpoint and ``cfg.json``. Raises SAELoadError for the parts of a distributed one alone."""
    weights = ("clt_checkpoint_latest.safetensors", "model.safetensors", "clt.pt", "*.safetensors", "*.pt")
    return one_file(path, name, options, weights, ("cfg.json", "../cfg.json"))


def hook_of_crosslayer(files: Files) -> HookSite:
    """The hook points of TransformerLens that the config file names, in every block."""
    layers = files.setting("num_layers", int, 0)
    sides = [files.setting(key, str) for key in ("tl_input_template", "tl_output_template")]
    sites = [
        None if side is None else tuple(side.replace("{}", str(layer)) for layer in range(layers)) for side in sides
    ]
    return hook_of(files, sites[0], sites[1])
