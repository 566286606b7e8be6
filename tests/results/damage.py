"""Ways to damage the file of a record's arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def _flip(path: Path) -> None:
    """Flip one bit of what LZMA packed."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _encrypt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def _bare(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.arange(20.0))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _refill(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def refill(path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w") as member:
                    changed = array if key == "packed.names" else change(array)
                    np.lib.format.write_array(member, changed, allow_pickle=True)

    return refill


def _claim(path: Path) -> None:
    """Let the header of a member claim a huge shape, with a right checksum."""
    with zipfile.ZipFile(path, "w") as archive, archive.open("fvu.num.npy", "w") as member:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(member, header)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "one bit": _flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]) and None,
    "empty": lambda path: path.write_bytes(b"") and None,
    "missing": lambda path: path.unlink(),
    "encrypted": _encrypt,
    "bare array": _bare,
    "directory": _folder,
    "huge shape": _claim,
    "0-d": _refill(lambda array: np.array(1.0)),
    "two dimensions more": _refill(lambda array: array[..., None, None]),
    "structured": _refill(lambda array: array.astype([("a", "<f8")])),
    "objects": _refill(lambda array: array.astype(object)),
}
