"""One shard of cached tensors, kept as a file whose name holds its checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from saebench.atomic import temporary_name, write_atomic

FORMAT = 1  # of names, files and keys; it is part of the key, so that another format uses other folders
KEY_FILE = "key.json"
SERIES_NAME = re.compile(r"[0-9a-f]{64}")
SHARD_NAME = re.compile(r"[0-9]{8,}-[0-9]{8,}-([0-9a-f]{32})\.safetensors")

_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip

# path → (inode, size, mtime in ns) of the files whose checksum this process has found to be right.
_verified: dict[str, tuple[int, int, int]] = {}


class DamagedShardError(Exception):
    """A shard file does not hold what its name says."""


class Shard(NamedTuple):
    """Rows ``start:stop`` of the series in folder ``series``."""

    series: str
    start: int
    stop: int

    @property
    def prefix(self) -> str:
        """The beginning of its file's name, which the file's checksum follows."""
        return f"{self.start:08d}-{self.stop:08d}-"

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata that the checksum covers, so that a sound file under another shard's name is noticed."""
        return {"shard": f"{self.series}/{self.start}-{self.stop}"}


def canonical_key(key: Mapping[str, str | int | float], rows: int, rows_per_shard: int) -> str:
    """Return the JSON text that a series' folder is named after. ``1``, ``1.0`` and ``"1"`` are different values.

    Raises:
        TypeError: A value of the key is not a str, int or float.
        ValueError: A value of the key is NaN or infinite.
    """
    for name, value in key.items():
        if type(name) is not str or type(value) not in (str, int, float):
            raise TypeError(f"a cache key maps str to str, int or float, not {name!r} to {value!r}")
    parts = {"format": FORMAT, "key": dict(key), "rows": rows, "rows_per_shard": rows_per_shard}
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def series_name(key: str) -> str:
    """Return the name of the folder of the series with this canonical key."""
    return hashlib.sha256(key.encode("utf-8")).hexdigest()


def write_key(folder: Path, key: str) -> None:
    """Write the key of a series beside its shards, whole or not at all, unless it is there. Raises OSError."""
    path, content = folder / KEY_FILE, key.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size == len(content):
            return
    write_atomic(path, lambda file: file.write(content), sync=False)


def size_bound(shard: Shard, tensors: Mapping[str, Tensor]) -> int:
    """Return the most bytes that the file of ``tensors`` can take, a few dozen per tensor more than it will."""
    far = 10**15
    header = {
        name: {"dtype": str(tensor.dtype), "shape": list(tensor.shape), "data_offsets": [far, far]}
        for name, tensor in tensors.items()
    }
    return 16 + len(json.dumps({"__metadata__": shard.metadata, **header})) + sum(t.nbytes for t in tensors.values())


def write_shard(folder: Path, shard: Shard, tensors: dict[str, Tensor]) -> tuple[Path, int]:
    """Write ``tensors`` to a file in ``folder``, which appears there whole or not at all.

    Only a power cut can leave a part of it: the file is not synced to the disk, because the checksum would tell.

    Args:
        folder: An existing folder.
        shard: The shard that the tensors belong to.
        tensors: Contiguous tensors on the CPU, no two of which share storage.

    Returns:
        The file's path and its size in bytes.

    Raises:
        OSError: The disk cannot be written to.
        SafetensorError: A tensor is of a type that files do not hold.
    """
    temp = folder / temporary_name()
    try:
        temp.touch(exist_ok=False)  # now the folder is not empty, so no other process removes it
        _write(temp, tensors, shard.metadata)
        path = folder / f"{shard.prefix}{_checksum(temp)}.safetensors"
        identity = _identity(temp)
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    _verified[str(path)] = identity
    return path, identity[1]


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file of safetensors.

    The library's own function first writes a file of a name of its own beside ``path``. If the process is killed, that
    file stays, and nobody can tell whose it was.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    # The largest numbers come first, so that all tensors are aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    end = 0
    for name in order:
        tensor, start = tensors[name], end
        end += tensor.nbytes
        if tensor.dtype not in _TYPES:
            raise SafetensorError(f"{name!r} is of the type {tensor.dtype}, which the cache does not keep")
        header[name] = {
            "dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end],
        }  # fmt: skip
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("r+b") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            if tensors[name].nbytes:
                file.write(tensors[name].reshape(-1).view(torch.uint8).numpy().data)


def read_shard(path: Path, shard: Shard) -> dict[str, Tensor]:
    """Return the tensors in ``path``, mapped into memory rather than copied.

    Pages are read when they are touched, and they stay readable when the file is deleted. The checksum is computed
    once per process, and again if the file has changed.

    Raises:
        FileNotFoundError: The file is gone.
        DamagedShardError: The file is unreadable, or its content is not what its name says.
    """
    try:
        _verify(path)
        with safe_open(path, framework="pt") as file:
            if file.metadata() != shard.metadata:
                raise DamagedShardError("it belongs to another shard")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        # safetensors and torch each open the file again, and report a missing one differently. Even if another process
        # has written it again by now, this counts as a miss.
        if not os.path.lexists(path) or "No such file" in str(error):
            raise FileNotFoundError(str(path)) from error
        raise DamagedShardError(str(error)) from error


def _verify(path: Path) -> None:
    if _verified.get(str(path)) == _identity(path):
        return
    match = SHARD_NAME.fullmatch(path.name)
    if match is None or _checksum(path) != match[1]:
        raise DamagedShardError("its checksum is wrong")
    if str(path) not in _verified:
        # Tell other processes that the shard is in use, but only once, because each touch makes them verify it again.
        with contextlib.suppress(OSError):  # the cache may be read-only
            os.utime(path)
    _verified[str(path)] = _identity(path)


def _identity(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
