"""What the fields of SAELens' ``cfg.json`` may hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from saebench.errors import SAELoadError, shown

_LARGEST = 2**31  # of whole numbers
_LONGEST = 300  # characters of texts
_MOST_LAYERS = 64  # attention layers of temporal SAEs
_NORMALISATIONS = (
    *("none", "expected_average_only_in", "layer_norm", "constant_norm_rescale", "covariance_whitening"),
    "constant_scalar_rescale",
)

# A rule takes the name of a file, the name of a field and its value, and raises SAELoadError for a bad value.
Rule = Callable[[str, str, Any], None]


def _rule(accepts: Callable[[Any], bool], expects: str) -> Rule:
    def check(where: str, key: str, value: Any) -> None:
        if not accepts(value):
            raise SAELoadError(f"{where} says {key}={shown(value)}, but it must be {expects}; correct it.")

    return check


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < _LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()


def _is_slice(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 3 and all(part is None or type(part) is int for part in value)


count = _rule(_is_count, "a whole number above 0")
_flag = _rule(lambda value: isinstance(value, bool), "true or false")
_optional_flag = _rule(lambda value: value is None or isinstance(value, bool), "true or false")
_optional_count = _rule(lambda value: value is None or _is_count(value), "a whole number above 0")
text = _rule(_is_text, f"a printable text of at most {_LONGEST} characters")
positive = _rule(lambda value: _is_number(value) and value > 0, "a number above 0")

SETTINGS: dict[str, Rule] = {
    "d_in": count,
    "d_sae": count,
    "d_out": count,
    "apply_b_dec_to_input": _optional_flag,
    "finetuning_scaling_factor": _optional_flag,
    "rescale_acts_by_decoder_norm": _flag,
    "normalize_activations": _rule(
        lambda value: value is None or isinstance(value, bool) or value in _NORMALISATIONS,
        f"one of {', '.join(_NORMALISATIONS)}",
    ),
    "reshape_activations": _rule(lambda value: value in (None, "none", "hook_z"), "'none' or 'hook_z'"),
    "residual_threshold": _rule(lambda value: _is_number(value) and value >= 0, "a number, 0 or more"),
    "max_iterations": _optional_count,
    "stop_on_duplicate_support": _flag,
    "n_heads": count,
    "n_attn_layers": _rule(lambda value: _is_count(value) and value <= _MOST_LAYERS, f"from 1 to {_MOST_LAYERS}"),
    "bottleneck_factor": count,
    "sae_diff_type": _rule(lambda value: value in ("relu", "topk"), "'relu' or 'topk'"),
    "kval_topk": _optional_count,
    "tied_weights": _flag,
    "activation_normalization_factor": positive,
}
METADATA: dict[str, Rule] = {
    "model_name": text,
    "hook_name": text,
    "hook_name_out": text,
    "hook_head_index": _rule(lambda value: type(value) is int and abs(value) < _LARGEST, "a whole number"),
    "model_from_pretrained_kwargs": _rule(lambda value: isinstance(value, dict), "an object"),
    "prepend_bos": _flag,
    "exclude_special_tokens": _rule(
        lambda value: (
            isinstance(value, bool) or (isinstance(value, list) and all(type(token) is int for token in value))
        ),
        "true, false or a list of token ids",
    ),
    "context_size": count,
    "seqpos_slice": _rule(_is_slice, "a list of at most three whole numbers"),
    "training_architecture": text,
}
