"""How a user undoes a mistake: by an option of the reference where its scheme has one, else by a line of a file."""

from __future__ import annotations

from dataclasses import replace

from saebench.sae.hook import HookSite
from saebench.sae.ref import Reference
from saebench.sae.registry import scheme_registry

_FACTOR = "norm_scaling_factor"
# What to change in a folder of SAELens, in a map of the user's, and in code.
_SETTINGS = {
    "layer_norm": (
        'write "normalize_activations": "layer_norm" into cfg.json',
        "normalisation: {kind: layer_norm}",
        "give it each token with mean 0 and standard deviation 1, and undo this after decoding",
    ),
    "norm_rescale": (
        'write "normalize_activations": "constant_norm_rescale" into cfg.json',
        "normalisation: {kind: norm_rescale}",
        "give it each token with the norm sqrt(d), and undo this after decoding",
    ),
    "pre_bias": (
        'write "apply_b_dec_to_input": true into cfg.json',
        "tensors: {pre_bias: b_dec}",
        "subtract b_dec from the input of the encoder",
    ),
    "no_pre_bias": (
        'write "apply_b_dec_to_input": false into cfg.json',
        "tensors: {pre_bias: null}",
        "leave the input of the encoder as it is",
    ),
    "norm_units": (
        'write "rescale_acts_by_decoder_norm": true into cfg.json, or fold the norms of W_dec into W_enc and b_enc',
        "activation: {decoder_norm: trained}",
        "select by the pre-activations times the norms of the decoder rows",
    ),
    "raw_units": (
        'write "rescale_acts_by_decoder_norm": false into cfg.json',
        "activation: {decoder_norm: none}",
        "select latents by their pre-activations alone",
    ),
    "centred": (
        'write "model_from_pretrained_kwargs": {"center_writing_weights": true} into the metadata of cfg.json',
        "",
        "give it each token without its mean over the dimensions, and add the mean after decoding",
    ),
}


def changed_setting(ref: Reference, setting: str) -> str:
    """Return what to write for a setting, such as ``pre_bias``."""
    in_lens, in_map, in_code = _SETTINGS[setting]
    if ref.scheme == "sae_lens":
        return in_lens
    if in_map and _takes(ref, "layer"):
        return f"write `{in_map}` into a map of its own (file:PATH?map=FILE.yaml)"
    return in_code


def centring(ref: Reference, ignores_mean: bool) -> str:
    """Return what to write if the SAE must read centred activations.

    What the metadata says is applied only to a language model that ignores the mean (`saebench.sae.centred`).
    """
    return changed_setting(ref, "centred") if ignores_mean else _SETTINGS["centred"][2]


def other_hook(ref: Reference, hook: HookSite) -> str:
    """Return what to write for another hook."""
    options = {"hook": hook.site_in} | ({"hook_out": hook.site_out} if hook.crosses else {})
    return with_options(ref, options) or f"load it with the hook {hook}"


def other_scale(ref: Reference, factor: float) -> str:
    """Return what to write if the SAE must read activations times ``factor`` of what it reads now."""
    named = dict(ref.options).get(_FACTOR)
    reference = with_options(ref, {_FACTOR: f"{float(named or 1) * factor:.4g}"})
    if reference is None:
        return f"give it activations times {factor:.4g}, and divide its reconstruction by the same"
    if ref.scheme == "sae_lens" and not named:
        return f'write "normalize_activations": "expected_average_only_in" into cfg.json, and load {reference}'
    return reference


def scale_left_out(ref: Reference, factor: float) -> str:
    """Return what to write if the scale ``factor`` of the training is applied once too often."""
    named = dict(ref.options).get(_FACTOR)
    reference = with_options(ref, {_FACTOR: f"{float(named) / factor:.4g}" if named else "1"})
    if reference is None:
        return f"divide activations by {factor:.4g}, and multiply its reconstruction by the same"
    if ref.scheme == "sae_lens" and not named:
        return f'write "normalize_activations": "none" into cfg.json, or scale the weights back by {factor:.4g}'
    return reference


def other_k(ref: Reference, k: int) -> str:
    """Return what to write for another number of active latents."""
    if ref.scheme == "sae_lens":
        return f'write "architecture": "topk" and "k": {k} into cfg.json'
    return with_options(ref, {"k": str(k)}) or f"keep the {k} largest latents of each token"


def with_options(ref: Reference, options: dict[str, str]) -> str | None:
    """Return a reference with other options; None if its scheme does not take them."""
    if ref.scheme == "python" or not all(_takes(ref, option) for option in options):
        return None
    return str(replace(ref, options=tuple(sorted({**dict(ref.options), **options}.items()))))


def _takes(ref: Reference, option: str) -> bool:
    return any(option in form.options for form in scheme_registry().get(ref.scheme).forms if not form.control)
