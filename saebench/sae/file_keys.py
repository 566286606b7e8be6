"""The names of the tensors in a file of weights, without loading it, without torch, and without running anything."""

from __future__ import annotations

import json
import pickletools
import zipfile
from pathlib import Path

from saebench.files import open_regular

_HEADER = 16 * 2**20  # bytes of the header of a safetensors file, or of the pickle in a file of PyTorch
_PICKLES = (".pt", ".pth", ".bin", ".ckpt")
_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "UNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"})


def tensor_names(file: Path) -> frozenset[str] | None:
    """Return the names of the tensors in a file; None where they cannot be told.

    For a file of PyTorch these are all texts in its pickle, whose instructions are listed and not followed.
    """
    try:
        if file.suffix == ".safetensors":
            return _of_safetensors(file)
        if file.suffix == ".npz":
            with open_regular(file) as opened, zipfile.ZipFile(opened) as archive:
                return frozenset(name.removesuffix(".npy") for name in archive.namelist())
        if file.suffix in _PICKLES:
            return _of_pickle(file)
    except Exception:  # a damaged file, which loading it reports
        return None
    return None


def _of_safetensors(file: Path) -> frozenset[str]:
    with open_regular(file) as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _HEADER:
            raise ValueError(length)
        header = json.loads(opened.read(length))
    return frozenset(header) - {"__metadata__"}


def _of_pickle(file: Path) -> frozenset[str] | None:
    with open_regular(file) as opened:
        if not zipfile.is_zipfile(opened):
            return None
        with zipfile.ZipFile(opened) as archive:
            [member] = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            with archive.open(member) as pickled:
                content = pickled.read(_HEADER)
    return frozenset(str(text) for code, text, _ in pickletools.genops(content) if code.name in _TEXTS)
