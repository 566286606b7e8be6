"""Telling the format of an SAE from the files that lie in a folder, without loading them.

A format is a scheme whose references name files. Names of files, names of tensors and settings are compared with what
each format has; torch is not needed for that, and nothing in the files is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import SaebenchError
from saebench.files import open_regular, read_small_text
from saebench.sae.file_keys import tensor_names
from saebench.yaml_file import parse_yaml

if TYPE_CHECKING:
    from saebench.sae.affine.map import Format, FormatMap, When

_WEIGHTS = (".safetensors", ".npz", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class Rule:
    """The names by which the files of a format are recognised, for formats that no map describes.

    Attributes:
        name: The scheme.
        files: Patterns of names, each of which some file of the folder must match.
        config: A pattern of a file of settings, and a key with the values that it may have; no values allow any.
    """

    name: str
    files: tuple[str, ...]
    config: tuple[str, str, tuple[str, ...]] | None = None


_RULES = (
    Rule("sae_lens", ("cfg.json", "sae_weights.safetensors"), ("cfg.json", "d_in", ())),
    Rule("sae_lens", ("cfg.json", "sparsity.safetensors"), ("cfg.json", "d_in", ())),
    Rule("itda", ("atoms.pt", "metadata.yaml")),
    Rule("temporal", ("conf.yaml", "latest_ckpt.safetensors")),
    Rule("nanda_crosscoder", ("cfg.json", "cc_weights.pt")),
    Rule("nanda_crosscoder", ("[0-9]*_cfg.json", "[0-9]*.pt"), ("[0-9]*_cfg.json", "hook_point", ())),
    Rule("finetuning_crosscoder", ("config.json", "model.safetensors"), ("config.json", "dict_size", ())),
    Rule("circuit_tracer_clt", ("W_enc_*.safetensors", "W_dec_*.safetensors")),
    Rule("gemma_scope_2_clt", ("params_layer_*.safetensors",)),
    Rule("llamascopium_crosscoder", ("config.json", "sae_weights.*"), ("config.json", "sae_type", ("crosscoder",))),
    Rule("llamascopium_clt", ("config.json", "sae_weights.*"), ("config.json", "sae_type", ("clt",))),
    Rule("crosslayer_coding", ("cfg.json", "clt*"), ("cfg.json", "num_features", ())),
)


def recognise(path: Path) -> list[str]:
    """Return the formats that the files at ``path`` may have, which are names of schemes.

    One name means that nothing else fits; several mean that the files do not tell them apart, and none that no format
    of saebench has such files.

    Args:
        path: A folder, or a file of weights.
    """
    from saebench.sae.affine.map import built_in_maps

    folder = path.parent if path.is_file() else path
    by_rule = list(dict.fromkeys(rule.name for rule in _RULES if _fits(rule, folder)))
    if by_rule:
        return by_rule
    scores = {name: score for name, form in built_in_maps().items() if (score := _score(form, path)) is not None}
    best = max(scores.values(), default=None)
    return [name for name, score in scores.items() if score == best]


def file_to_name(path: Path, format_name: str) -> Path:
    """Return the path that a reference names: ``path``, or a file in it where a format has one file for each SAE."""
    from saebench.sae.affine.map import built_in_maps

    variants = built_in_maps().get(format_name)
    if variants is None or path.is_file():
        return path
    files = _files(variants[0].weights, path)
    return path if len(files) < 2 else files[0]


def _fits(rule: Rule, folder: Path) -> bool:
    try:
        if not all(any(folder.glob(pattern)) for pattern in rule.files):
            return False
    except OSError:
        return False
    if rule.config is None:
        return True
    pattern, key, values = rule.config
    found = [_settings(file).get(key) for file in folder.glob(pattern)]
    return any(value is not None and (not values or value in values) for value in found)


def _files(patterns: tuple[str, ...], folder: Path) -> list[Path]:
    """The files that the first pattern with any finds."""
    for pattern in patterns:
        if files := sorted(file for file in folder.glob(pattern) if file.is_file()):
            return files
    return []


def _score(variants: Format, path: Path) -> tuple[int, ...] | None:
    """Return how well a map describes what lies at ``path``; None where it does not fit.

    What counts is, in this order: a file of settings of the name that it knows; a variant that the settings choose, or
    else the tensors or the path; the whole name of the weights rather than a pattern; and how many tensors it names.
    """
    first = variants[0]
    if path.is_file():
        named = any(path.match(pattern.replace("../", "")) for pattern in first.weights)
        weights = path if named and path.suffix in _WEIGHTS else None
    else:
        weights = next(iter(_files(first.weights, path)), None)
    if weights is None or first.json_line != _begins_with_json(weights):
        return None
    config = _config(first, weights)
    names = tensor_names(weights)
    fitting = [score for variant in variants if (score := _of_variant(variant, weights, names, config)) is not None]
    if not fitting:
        return None
    return (0 if not first.config else 1 if config else -1, *max(fitting))


def _begins_with_json(file: Path) -> bool:
    try:
        with open_regular(file) as opened:
            return bool(opened.read(1) == b"{")
    except (OSError, ValueError):
        return False


def _of_variant(
    variant: FormatMap, weights: Path, names: frozenset[str] | None, config: Mapping[str, Any]
) -> tuple[int, int, int] | None:
    tensors = [getattr(variant.tensors, field) for field in type(variant.tensors).model_fields]
    named = [tensor for tensor in tensors if tensor is not None and tensor != "b_dec"]
    whole_name = any(weights.match(pattern) for pattern in variant.weights if "*" not in pattern)
    if names is None:
        if not whole_name:
            return None  # neither the names of the tensors nor that of the file tell anything
    elif not {tensor.key for tensor in named if not tensor.optional} <= names:
        return None
    chosen = _holds(variant.when, weights, names, config)
    present = len(named) if names is None else sum(tensor.key in names for tensor in named)
    return None if chosen is None else (chosen, int(whole_name), present)


def _holds(when: When | None, weights: Path, names: frozenset[str] | None, config: Mapping[str, Any]) -> int | None:
    """Return how much a condition tells that holds: 2 if it is on settings, 1 if it is on names, 0 if there is none.

    It is None for one that does not hold.
    """
    if when is None:
        return 0
    if when.config is not None:
        keys = (when.config,) if isinstance(when.config, str) else tuple(when.config)
        value = next((found for key in keys if (found := _at(config, key)) is not None), None)
        if value is None:
            return 0 if when.absent else None
        return None if when.values and _text(value) not in when.values else 2
    if when.has is not None and names is not None and not any(fnmatchcase(name, when.has) for name in names):
        return None
    if when.path is not None and not re.search(when.path, weights.absolute().as_posix()):
        return None
    return 1


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _config(first: FormatMap, weights: Path) -> Mapping[str, Any]:
    """The settings beside or above a file of weights, under the names that a map knows."""
    for pattern in first.config:
        name = pattern.replace("{stem}", weights.stem)
        above = name.startswith("../")
        folder = weights.parent.parent if above else weights.parent
        for file in sorted(folder.glob(name.removeprefix("../"))):
            return _settings(file)
    return {}


def _settings(file: Path) -> Mapping[str, Any]:
    try:
        text = read_small_text(file, "config file", SaebenchError)
        is_yaml = file.suffix in (".yaml", ".yml")
        content = parse_yaml(text, str(file), SaebenchError) if is_yaml else json.loads(text)
    except (SaebenchError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, Mapping) else {}
