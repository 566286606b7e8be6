"""The formats of crosscoders and cross-layer transcoders: which files they have, and at which hook points they are.

What stands here is read from small config files and from the names of files, so that a plan knows hook points before
any weights are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebench.errors import SAELoadError
from saebench.files import read_json
from saebench.sae.hook import HookSite, parse_sites
from saebench.yaml_file import read_yaml

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Files:
    """The files that a reference names, and its options.

    Attributes:
        name: The reference, for error messages.
        weights: The files of weights, in the order of layers where there is one for each.
        config: The content of the config file; empty where the format has none.
        options: The options of the reference.
    """

    name: str
    weights: tuple[Path, ...]
    config: Mapping[str, Any]
    options: Options

    def setting(self, key: str, kind: type, default: Any = None) -> Any:
        """Return a setting of the config file. Raises SAELoadError if it has another type."""
        value = self.config.get(key)
        if value is None:
            return default
        kinds = (float, int) if kind is float else kind
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            raise SAELoadError(f"{self.name}: its setting {key} must be of type {kind.__name__}, not {value!r:.60}.")
        return value


def hook_of(files: Files, sites_in: Sequence[str] | None, sites_out: Sequence[str] | None = None) -> HookSite:
    """Return the hook that a reference names with its options, or else the one that its files tell.

    Args:
        files: What the reference names.
        sites_in: Where the files say that the SAE reads; None if they do not say it.
        sites_out: Where they say that it writes, if it is elsewhere.

    Raises:
        SAELoadError: Neither tells it, or one side names a hook point twice.
    """
    sites_in = files.options.get("hook") or sites_in
    if not sites_in:
        raise SAELoadError(
            f"{files.name}: its files do not say where it reads; add all hook points to the reference, in order, such "
            "as ?hook=blocks.0-11.hook_resid_post."
        )
    named = files.options.get("hook_out")
    # An option for the input alone moves a crosscoder as a whole.
    sites_out = named or (sites_in if sites_out is None else sites_out)
    try:
        return HookSite(sites_in, sites_out)
    except ValueError as error:
        raise SAELoadError(f"{files.name}: {error}") from error


# ------------------------------------------------------------------ one file of weights with a config file


def one_file(path: Path, name: str, options: Options, weights: Sequence[str], configs: Sequence[str]) -> Files:
    """Return the files of a format with one file of weights.

    Args:
        path: The folder, or the file of weights itself.
        name: The reference.
        options: Its options.
        weights: Names of the file of weights, with wildcards, in the order in which they are looked for.
        configs: Names of the config file; ``{stem}`` stands for the name of the weights without its ending.

    Raises:
        SAELoadError: There is no such file of weights, or more than one, or the config file is damaged.
    """
    file = path if path.is_file() else _only(path, weights, name)
    for config in configs:
        candidate = file.parent / config.replace("{stem}", file.stem)
        if candidate.exists():
            return Files(
                name, (file,), _object(read_json(candidate, "config file", SAELoadError), candidate, name), options
            )
    return Files(name, (file,), {}, options)


def _only(folder: Path, patterns: Sequence[str], name: str) -> Path:
    for pattern in patterns:
        files = sorted(file for file in folder.glob(pattern) if file.is_file())
        if len(files) > 1:
            raise SAELoadError(
                f"{name}: {folder} holds {len(files)} files that could be the weights, such as {files[0].name}; name "
                "one in the reference."
            )
        if files:
            return files[0]
    raise SAELoadError(f"{name}: {folder} holds no file of weights ({' or '.join(patterns)}).")


def _object(content: Any, file: Path, name: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise SAELoadError(f"{name}: {file.name} must hold an object, not {type(content).__name__}.")
    return content


# ------------------------------------------------------------------ one file of weights for each layer

_LAYER = re.compile(r"layer_?([0-9]{1,4})|([0-9]{1,4})(?!.*[0-9])")


def by_layer(folder: Path, pattern: str, name: str) -> tuple[Path, ...]:
    """Return the files of a folder that match a pattern, one for each layer from 0 on.

    The number after ``layer`` in the name of a file is its layer, or else the last number. Raises SAELoadError where a
    layer is missing or there twice.
    """
    if not folder.is_dir():
        raise SAELoadError(f"{name}: {folder} is no folder; name the folder with the files of all layers.")
    layers: dict[int, Path] = {}
    for file in sorted(folder.glob(pattern)):
        match = _LAYER.search(file.stem)
        if match is None:
            continue
        layer = int(match[1] or match[2])
        if layer in layers:
            raise SAELoadError(f"{name}: {folder} holds two files of layer {layer} ({pattern}).")
        layers[layer] = file
    if sorted(layers) != list(range(len(layers))) or not layers:
        missing = next(layer for layer in range(len(layers) + 1) if layer not in layers)
        raise SAELoadError(
            f"{name}: {folder} holds {len(layers)} files {pattern}, but none of layer {missing}; a cross-layer "
            "transcoder needs all its layers."
        )
    return tuple(layers[layer] for layer in range(len(layers)))


def yaml_config(folder: Path, name: str) -> Mapping[str, Any]:
    """Return the content of ``config.yaml`` in a folder; empty where there is none. Raises SAELoadError."""
    file = folder / "config.yaml"
    return _object(read_yaml(file, "config file", SAELoadError), file, name) if file.exists() else {}


def in_every_block(kind: str, layers: int) -> tuple[str, ...]:
    """Return the hook point ``kind`` of the blocks 0 to ``layers - 1``."""
    return tuple(f"blocks.{layer}.{kind}" for layer in range(layers))


def site_list(files: Files, key: str) -> tuple[str, ...] | None:
    """Return the hook points in a list of the config file; None if it has none. Raises SAELoadError."""
    sites = files.setting(key, list)
    if sites is None:
        return None
    if not sites or not all(isinstance(site, str) and site for site in sites):
        raise SAELoadError(f"{files.name}: its setting {key} must be a list of hook points, not {sites!r:.60}.")
    return tuple(sites)


def read_sites(text: str) -> tuple[str, ...]:
    """Read the option ``hook`` or ``hook_out``. Raises ValueError for a text that names no hook points."""
    sites = parse_sites(text)
    if len(set(sites)) < len(sites):
        raise ValueError(text)
    return sites


Find = Callable[[Path, str, Options], Files]
Hook = Callable[[Files], HookSite]
