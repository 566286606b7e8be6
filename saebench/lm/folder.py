"""The folder of a local language model: what is checked before a library reads it, and what its weights are.

A folder from strangers may hold pipes and devices that never end, name files outside of it, and describe a model that
no memory could hold. All of this is refused in one sentence.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saebench.errors import ModelError, shown
from saebench.files import read_json, read_regular

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

_LARGEST_JSON = 2**24  # bytes of a config file; those of tokenizers may be larger and are read by their library
_LARGEST_INDEX = 2**28
_MOST_LAYERS = 4096  # far more than any model has; each costs time even if it has no weights
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "decoder_layers")
_READ = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja", ".py", ".tiktoken")  # endings that are read
# Types of numbers that weights have; others are counts, masks or compressed weights.
_FLOATING = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"}
_POINTER = b"version https://git-lfs"


def check_folder(folder: Path, name: str) -> None:
    """Raise ModelError unless a library can read the model in a folder without harm.

    Args:
        folder: The folder.
        name: The reference of the model, for messages.
    """
    _check_files(folder, name)
    config = _object(folder, "config.json", name)
    _check_config(config, name)
    _check_weights(folder, config, name)
    _check_tokenizer(folder, name)


def weight_types(folder: Path) -> dict[str, str]:
    """Return the type of each tensor of a model in safetensors, by its name, as the headers of the files have it."""
    from safetensors import safe_open

    types: dict[str, str] = {}
    for path in _tensor_files(folder):
        with safe_open(path, framework="pt") as file:
            types |= {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (not a dict)
    return types


def check_types(types: dict[str, str], model: Any, name: str) -> None:
    """Raise ModelError if weights of a model come from whole, complex or truth values.

    Such files are compressed, or of something else. Read as if they were weights, they would give numbers without any
    meaning.

    Args:
        types: What `weight_types` returned.
        model: The loaded model.
        name: Its reference, for the message.
    """
    if getattr(model.config, "quantization_config", None):  # the library has decompressed them
        return
    names = [parameter for parameter, _ in model.named_parameters()]
    for tensor, kind in types.items():
        if kind not in _FLOATING and any(f".{parameter}".endswith(f".{tensor}") for parameter in names):
            what = "complex numbers" if kind.startswith("C") else "truth values" if kind == "BOOL" else "whole numbers"
            raise ModelError(
                f"{name} has weights that are {what}: {tensor!r} has the type {kind}, and its config.json does not say "
                "how to decompress it; use the uncompressed model."
            )


def _check_files(folder: Path, name: str) -> None:
    for path in _files(folder):
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            if path.suffix in _READ:
                raise ModelError(f"{name}: {path.name} cannot be read: {error.strerror or error}.") from error
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
            raise ModelError(f"{name}: {path.name} is {kind}, not a regular file; remove it from the folder.")
        if stat.S_ISDIR(mode) and path.suffix in _READ:
            raise ModelError(f"{name}: {path.name} is a folder, not a regular file.")


def _files(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, and in the one folder inside of it that transformers reads."""
    for part in (folder, folder / "additional_chat_templates"):
        try:
            yield from sorted(part.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ModelError(f"The model folder {part} cannot be read: {error.strerror or error}.") from error


def _check_config(config: dict[str, Any], name: str) -> None:
    for key, value in _entries(config):
        if key in _LAYERS and isinstance(value, int) and value > _MOST_LAYERS:
            raise ModelError(f"{name}: its config.json asks for {shown(value)} layers, which no model has ({key}).")
        # A name with a slash makes transformers fetch a program for the attention from the hub.
        if key.endswith("attn_implementation") and isinstance(value, str) and "/" in value:
            raise ModelError(
                f"{name}: its config.json asks for the program {shown(value)} of the hub to compute attention, which "
                f"saebench does not run; remove {key!r} from it."
            )


def _check_weights(folder: Path, config: dict[str, Any], name: str) -> None:
    present = [file for file in WEIGHTS if (folder / file).is_file()]
    if not present and config.get("transformers_weights") is None:  # the name of a file, which transformers checks
        raise ModelError(
            f"{name} has no weights: the folder holds none of {', '.join(WEIGHTS)}. Weights in other formats, such as "
            "GGUF, must be converted to safetensors first."
        )
    for index in (file for file in present if file.endswith(".index.json")):
        _check_index(folder, index, name)
    for path in _tensor_files(folder):
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise ModelError(
                    f"{name}: {path.name} is a pointer of Git LFS, not the weights themselves; run `git lfs pull` in "
                    "the folder."
                )


def _check_index(folder: Path, index: str, name: str) -> None:
    """Raise ModelError unless an index maps tensors to files of the folder."""
    content = _object(folder, index, name)
    files = content.get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ModelError(f"{name}: {index} must have a 'weight_map' from tensors to files.")
    for file in sorted(set(files.values())):
        if os.path.basename(file) != file or file in ("", ".", ".."):
            raise ModelError(f"{name}: {index} names the file {shown(file)}, which does not lie in the folder.")
        if not os.path.isfile(folder / file):
            raise ModelError(f"{name}: the file {shown(file)} is missing, which {index} names; get a complete copy.")


def _tensor_files(folder: Path) -> list[Path]:
    """Return the safetensors files that a model is loaded from. The folder may hold others."""
    single, index = (folder / name for name in WEIGHTS[:2])
    if single.is_file() or not index.is_file():
        return [single] if single.is_file() else []
    return [folder / name for name in sorted(set(_object(folder, index.name, folder.name)["weight_map"].values()))]


def _check_tokenizer(folder: Path, name: str) -> None:
    signs = ("token", "vocab", "merges", "spiece", "sentencepiece", "tekken", ".model", ".tiktoken")
    if not any(sign in path.name for path in _files(folder) for sign in signs):
        raise ModelError(
            f"{name} has no tokenizer: the folder holds no tokenizer.json or other file of one; copy those of the "
            "model that it was made from."
        )
    for file in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (folder / file).is_file():
            _object(folder, file, name)


def _object(folder: Path, file: str, name: str) -> dict[str, Any]:
    """Return the object in a JSON file of the folder. Raises ModelError if there is none."""
    if file.endswith(".index.json"):  # too large for the checks of small files
        try:
            content = json.loads(read_regular(folder / file, _LARGEST_INDEX))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{name}: {file} cannot be read as JSON ({str(error)[:200]}).") from error
    else:
        content = read_json(folder / file, "model file", ModelError, _LARGEST_JSON)
    if not isinstance(content, dict):
        raise ModelError(f"{name}: {file} must hold a JSON object, not {shown(content)}.")
    return content


def _entries(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a configuration and of those inside of it."""
    for key, value in config.items():
        yield key, value
        if isinstance(value, dict):
            yield from _entries(value)
