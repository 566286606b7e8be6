"""Reading weights from files that somebody else wrote: safetensors, NumPy archives and PyTorch's own files.

No code in a file ever runs: pickles are read with ``weights_only=True``, which refuses everything but tensors, numbers,
texts, lists and dicts. What a header claims is compared with the size of the file before memory is taken.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saebench.errors import SAELoadError

SAFETENSORS, NUMPY = frozenset({".safetensors"}), frozenset({".npz"})
PICKLED = frozenset({".pt", ".pth", ".bin", ".ckpt"})
_UNSAFE = frozenset({".pkl", ".pickle", ".gz", ".joblib"})
_MARGIN = 1_000_000  # bytes by which the members of a file may exceed it: their headers and padding


def read_tensors(path: Path, name: str) -> dict[str, Any]:
    """Return what a file of weights holds: tensors by name, and in pickles other plain values and nested dicts.

    Args:
        path: The file.
        name: The reference, for error messages.

    Raises:
        SAELoadError: The file is missing, damaged, of an unknown kind, or holds anything that could run code.
    """
    if not path.is_file():
        kind = "is not a regular file" if path.exists() else "does not exist"
        raise SAELoadError(f"{name}: the file of weights {path} {kind}.")
    try:
        if path.suffix in SAFETENSORS:
            return dict(_safetensors(path))
        if path.suffix in NUMPY:
            return dict(_npz(path))
        if path.suffix in PICKLED:
            return _pickled(path)
    except SAELoadError as error:
        raise SAELoadError(f"{name}: {path.name} {error}.") from error
    if path.suffix in _UNSAFE:
        raise SAELoadError(
            f"{name}: {path.name} is a pickle of whole objects, which can run code, so it is refused. Load it yourself "
            "where you trust it, and save its state_dict() with safetensors.torch.save_file."
        )
    raise SAELoadError(
        f"{name}: {path.name} is no file of weights that saebench reads (.safetensors, .npz, .pt, .pth, .bin, .ckpt)."
    )


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError) as error:
        raise SAELoadError(f"is truncated or no safetensors file ({_one_line(error)}); fetch it again") from error


def _npz(path: Path) -> Mapping[str, Tensor]:
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    _check_npy(file, member)
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.ascontiguousarray(arrays[key])) for key in arrays.files}
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise SAELoadError(f"is damaged or holds more than plain arrays ({_one_line(error)})") from error


def _check_npy(file: Any, member: zipfile.ZipInfo) -> None:
    """Raise ValueError where the header of an array claims more than its member of the archive holds."""
    import numpy as np

    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"{member.filename} is an array of an unknown version")
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects")
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} claims the shape {list(shape)}, for which it is too short")


def _pickled(path: Path) -> dict[str, Any]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > path.stat().st_size + _MARGIN:
                raise SAELoadError("is compressed, which torch.save never does, so it is refused")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SAELoadError:
        raise
    except Exception as error:  # torch raises errors of many kinds for files that are damaged
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise SAELoadError(
                "holds objects beside tensors, which could run code, so it is refused; load it yourself where you "
                "trust it, and save its state_dict() with safetensors.torch.save_file"
            ) from error
        raise SAELoadError(f"is truncated or was not written by torch.save ({_one_line(error)})") from error
    if not isinstance(content, dict):
        raise SAELoadError(f"holds a {type(content).__name__} instead of named tensors")
    return content


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
