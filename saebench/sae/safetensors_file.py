"""Reading safetensors files that somebody else wrote.

What the header claims is compared with the size of the file before memory is taken, and only floating-point numbers are
read: a number of any other type has a scale that the file does not tell.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from saebench.budget import format_bytes, out_of_memory
from saebench.errors import SAELoadError, shown
from saebench.files import open_regular, parse_json, storable_text
from saebench.sae.wording import CONVERT, one_line, shown_name

_HEADER_LIMIT = 2**24  # bytes; the header of an SAE has a few hundred
_MOST_DIMENSIONS = 8
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16}
_BITS |= {"U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64}
_BITS |= dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8)
_FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
_OTHERS = {"BOOL": "bool", "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_OTHERS |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
_OTHERS |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how files of torch.save begin
_AGAIN = "it is damaged or was not downloaded completely; fetch it again"


@dataclass(frozen=True)
class Stored:
    """One tensor of a file, as its header describes it.

    Attributes:
        dtype: The type of its numbers, such as "float32".
        shape: Its shape.
        floating: Whether its numbers are floating-point numbers that stand for themselves.
    """

    dtype: str
    shape: tuple[int, ...]
    floating: bool


def read_header(path: Path, name: str) -> dict[str, Stored]:
    """Return what a file holds, by the names of tensors, without reading them.

    Args:
        path: The file.
        name: The reference, for error messages.

    Raises:
        SAELoadError: The file cannot be read, is no safetensors file, or its header does not describe its content.
    """
    where = f"{name}: {storable_text(path.name)}"
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            text = _header_text(file, size, where)
    except OSError as error:
        raise SAELoadError(f"{where} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise SAELoadError(f"{where} cannot be read: {error}.") from error
    header = parse_json(text, f"{where}: its header", SAELoadError, unique=True)
    if not isinstance(header, dict):
        raise SAELoadError(f"{where}: its header is no JSON object; {_AGAIN}.")
    header.pop("__metadata__", None)
    stored, spans = {}, []
    for key, entry in header.items():
        stored[key], span = _entry(key, entry, where)
        spans.append((*span, key))
    _check_spans(sorted(spans), size - 8 - len(text.encode()), where)
    return stored


def read_floats(
    path: Path, names: Collection[str], name: str, dtype: torch.dtype | None = torch.float32
) -> dict[str, Tensor]:
    """Return some tensors of a file.

    Args:
        path: The file, whose header was read.
        names: The tensors to read.
        name: The reference, for error messages.
        dtype: The type to convert them to; None leaves them as they are.

    Raises:
        SAELoadError: A tensor is missing, does not hold floating-point numbers or does not fit into memory, or the
            file cannot be read.
    """
    header = read_header(path, name)
    for key in names:
        check_stored(header, key, None, path, name)
    return _read(path, header, names, name, dtype)


def read_all(path: Path, name: str) -> dict[str, Tensor]:
    """Return all tensors of a file as they are stored, also those that hold no floating-point numbers.

    Raises SAELoadError as `read_header` does, and when they do not fit into memory.
    """
    header = read_header(path, name)
    return _read(path, header, header, name, None)


def _read(
    path: Path, header: Mapping[str, Stored], names: Collection[str], name: str, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            # A copy, because the file may be written anew while the SAE is in use.
            return {key: file.get_tensor(key).to(dtype, copy=True) for key in names}
    except (SafetensorError, OSError) as error:
        raise SAELoadError(f"{name}: {path.name} cannot be read ({one_line(error)}); {_AGAIN}.") from error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise SAELoadError(f"{name}: {path.name} cannot be read ({one_line(error)}); {_AGAIN}.") from error
        needed = sum(4 * math.prod(header[key].shape) for key in names)
        raise SAELoadError(
            f"{name}: {path.name} does not fit into memory: it takes {format_bytes(needed)} in float32; free memory or "
            "use a larger machine."
        ) from error


def check_stored(
    header: Mapping[str, Stored], key: str, shape: tuple[int, ...] | None, path: Path, name: str, why: str = ""
) -> None:
    """Raise SAELoadError unless a file holds floating-point numbers of a shape under a name.

    Args:
        header: What the file holds.
        key: The name of the tensor.
        shape: The shape that it must have; None if any will do.
        path: The file, for error messages.
        name: The reference, for error messages.
        why: What decides the shape, for error messages.
    """
    where = f"{name}: {storable_text(path.name)}"
    if key not in header:
        holds = ", ".join(map(shown_name, sorted(header)[:12])) or "nothing"
        raise SAELoadError(f"{where} holds no {shown_name(key)}; it holds {holds}.")
    stored = header[key]
    if not stored.floating:
        raise SAELoadError(
            f"{where}: {shown_name(key)} holds numbers of type {stored.dtype}, whose scale the format does not tell; "
            "save it as float32, multiplied by its scale if it has one."
        )
    if shape is not None and stored.shape != shape:
        raise SAELoadError(
            f"{where}: {shown_name(key)} has the shape {list(stored.shape)}, but {list(shape)} is needed{why}; use "
            "files that belong together."
        )


def _header_text(file: BinaryIO, size: int, where: str) -> str:
    start = file.read(8)
    if start == b"version ":
        raise SAELoadError(
            f"{where} is not the file itself but a pointer of Git LFS to it; run `git lfs pull` in its repository."
        )
    if len(start) < 8:
        raise SAELoadError(f"{where} has only {size} bytes; {_AGAIN}.")
    (length,) = struct.unpack("<Q", start)
    if length > min(size - 8, _HEADER_LIMIT):
        if start.startswith(_PICKLED):
            raise SAELoadError(f"{where} holds a pickle, which can run code, so it is refused; {CONVERT}.")
        raise SAELoadError(
            f"{where} claims a header of {length:,} bytes and has {size:,} bytes in all, so it is truncated or no "
            f"safetensors file; {_AGAIN}."
        )
    try:
        return file.read(length).decode()
    except UnicodeDecodeError as error:
        raise SAELoadError(f"{where}: its header is not UTF-8, so it is no safetensors file; {_AGAIN}.") from error


def _entry(key: str, entry: Any, where: str) -> tuple[Stored, tuple[int, int]]:
    parts = entry if isinstance(entry, dict) else {}
    dtype, shape, span = parts.get("dtype"), _counts(parts.get("shape")), _counts(parts.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or span is None or len(span) != 2:
        raise SAELoadError(f"{where}: its header does not say type, shape and place of {shown_name(key)}; {_AGAIN}.")
    if len(shape) > _MOST_DIMENSIONS:
        raise SAELoadError(f"{where}: {shown_name(key)} has {len(shape)} dimensions; weights have 1 or 2.")
    bits = _BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != 8 * (span[1] - span[0]):
        raise SAELoadError(
            f"{where}: its header claims the shape {shown(list(shape))} for {shown_name(key)}, which its data does not "
            f"fill exactly; {_AGAIN}."
        )
    if dtype in _FLOATS:
        return Stored(_FLOATS[dtype], shape, True), (span[0], span[1])
    return Stored(_OTHERS.get(dtype, shown_name(dtype)), shape, False), (span[0], span[1])


def _counts(value: Any) -> tuple[int, ...] | None:
    """Return the whole numbers of a list; None for anything else."""
    if not isinstance(value, list) or not all(type(number) is int and 0 <= number < 2**63 for number in value):
        return None
    return tuple(value)


def _check_spans(spans: list[tuple[int, int, str]], size: int, where: str) -> None:
    """Raise SAELoadError unless the tensors' places cover the data of the file, one after the other."""
    described = max((last for _, last, _ in spans), default=0)
    if described > size:
        raise SAELoadError(
            f"{where} is truncated: its header describes {described:,} bytes of data, and it has {size:,}; {_AGAIN}."
        )
    end = 0
    for first, last, key in spans:
        if first != end or last < first:
            raise SAELoadError(
                f"{where}: its header puts {shown_name(key)} at the bytes {first:,} to {last:,}, which overlaps "
                f"another tensor or leaves a gap; {_AGAIN}."
            )
        end = last
    if end != size:
        raise SAELoadError(f"{where} has {size:,} bytes of data, but its header describes {end:,}; {_AGAIN}.")
