"""Reading weights from files that somebody else wrote: safetensors, NumPy archives and PyTorch's own files.

No code in a file ever runs: pickles are read with ``weights_only=True``, which refuses everything but tensors, numbers,
texts, lists and dicts. What a header claims is compared with the size of the file before memory is taken.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.files import SMALL, open_regular, parse_json, storable_text
from saebench.sae.safetensors_file import read_all
from saebench.sae.wording import one_line, shown_name

SAFETENSORS, NUMPY = frozenset({".safetensors"}), frozenset({".npz"})
PICKLED = frozenset({".pt", ".pth", ".bin", ".ckpt"})
_UNSAFE = frozenset({".pkl", ".pickle", ".gz", ".joblib"})
_MARGIN = 1_000_000  # bytes by which the members of a file may exceed it: their headers and padding
_TOO_DEEP = 16  # dicts and lists inside each other
_REPEATED = 2**24  # bytes that a tensor may claim beyond those of the file: one that was saved expanded
_AGAIN = "fetch it again"


def read_tensors(path: Path, name: str) -> dict[str, Any]:
    """Return what a file of weights holds: tensors by name, and in pickles other plain values and nested dicts.

    Args:
        path: The file.
        name: The reference, for error messages.

    Raises:
        SAELoadError: The file is missing, damaged, of an unknown kind, or holds anything that could run code.
    """
    _check_exists(path, name)
    if path.suffix in SAFETENSORS:
        return dict(read_all(path, name))
    where = f"{name}: {storable_text(path.name)}"
    if path.suffix in NUMPY:
        return _npz(path, where)
    if path.suffix in PICKLED:
        with _opened(path, where) as file:
            return _named(_unpickled(file, where), where)
    if path.suffix in _UNSAFE:
        raise SAELoadError(
            f"{where} is a pickle of whole objects, which can run code, so it is refused. Load it yourself where you "
            "trust it, and save its state_dict() with safetensors.torch.save_file."
        )
    raise SAELoadError(
        f"{where} is no file of weights that saebench reads (.safetensors, .npz, .pt, .pth, .bin, .ckpt)."
    )


def read_tensor(path: Path, name: str) -> Tensor:
    """Return the one tensor that a file of ``torch.save`` holds. Raises SAELoadError as `read_tensors` does."""
    _check_exists(path, name)
    where = f"{name}: {storable_text(path.name)}"
    with _opened(path, where) as file:
        content = _unpickled(file, where)
    if not isinstance(content, Tensor):
        raise SAELoadError(f"{where} holds a {type(content).__name__} instead of a tensor.")
    return content


def read_after_json(path: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the object in the first line of a file, which is JSON, and the tensors that ``torch.save`` wrote after it.

    Raises SAELoadError as `read_tensors` does, and where the first line is no JSON object.
    """
    _check_exists(path, name)
    where = f"{name}: {storable_text(path.name)}"
    with _opened(path, where) as file:
        line = file.readline(SMALL + 1)
        if len(line) > SMALL or not line.startswith(b"{"):
            raise SAELoadError(f"{where} does not begin with a line of JSON that describes the SAE.")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise SAELoadError(f"{where} does not begin with a line of JSON that describes the SAE.") from error
        described = parse_json(text, f"{where}: its first line", SAELoadError)
        tensors = _named(_unpickled(io.BytesIO(file.read()), where), where)
    return described, tensors


def _check_exists(path: Path, name: str) -> None:
    if not path.is_file():
        kind = "is not a regular file" if path.exists() else "does not exist"
        raise SAELoadError(f"{name}: the file of weights {storable_text(str(path))} {kind}.")


def _opened(path: Path, where: str) -> BinaryIO:
    try:
        return open_regular(path)
    except (OSError, ValueError) as error:
        raise SAELoadError(f"{where} cannot be read ({one_line(error)}).") from error


def _npz(path: Path, where: str) -> dict[str, Any]:
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    _check_npy(file, member)
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.asarray(arrays[key], order="C")) for key in arrays.files}
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise SAELoadError(f"{where} is damaged or holds more than plain arrays ({one_line(error)}).") from error


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


def _unpickled(file: BinaryIO, where: str) -> Any:
    """Return what ``torch.save`` wrote, of plain values and tensors only."""
    try:
        size = file.seek(0, io.SEEK_END)
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > size + _MARGIN:
                raise SAELoadError(f"{where} is compressed, which torch.save never does, so it is refused.")
        file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except SAELoadError:
        raise
    except Exception as error:  # torch raises errors of many kinds for files that are damaged
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise SAELoadError(
                f"{where} holds objects beside tensors, which could run code, so it is refused; load it yourself where "
                "you trust it, and save its state_dict() with safetensors.torch.save_file."
            ) from error
        raise SAELoadError(f"{where} is truncated or was not written by torch.save ({one_line(error)}).") from error
    for key, tensor in _tensors(content, "the tensor", 0, where):
        _check_plain(tensor, key, where)
    return content


def _tensors(value: Any, key: str, depth: int, where: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in a value with their names."""
    if depth > _TOO_DEEP:
        raise SAELoadError(f"{where} nests dicts or lists more than {_TOO_DEEP} deep.")
    if isinstance(value, Tensor):
        yield key, value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield from _tensors(member, str(name), depth + 1, where)
    elif isinstance(value, list | tuple | set):
        for member in value:
            yield from _tensors(member, key, depth + 1, where)


def _check_plain(tensor: Tensor, key: str, where: str) -> None:
    """Raise SAELoadError unless the numbers of a tensor all lie in the file.

    A pickle may describe a huge tensor whose steps are 0 or whose numbers are nowhere.
    """
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise SAELoadError(f"{where}: {shown_name(key)} is a sparse or quantised tensor, or one without numbers.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() + _REPEATED:
        raise SAELoadError(
            f"{where}: {shown_name(key)} claims the shape {list(tensor.shape)}, which its data does not fill; {_AGAIN}."
        )


def _named(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise SAELoadError(f"{where} holds a {type(content).__name__} instead of named tensors.")
    return {str(key): value for key, value in content.items()}
