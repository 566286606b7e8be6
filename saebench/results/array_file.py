"""The file of a record's arrays (``.npz``): writing it, and reading it so that any damage is noticed.

The file is a zip archive of ``.npy`` files packed with LZMA; `numpy.load` reads it, too. It does not check everything,
however: it may stop before the end of a member, where the checksum is compared, and it believes the directory of the
archive. `read_arrays` reads every member to its end and counts them.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from saebench.errors import DataError
from saebench.results.packing import unpack
from saebench.results.record import Arrays, Record

REMEDY = "`saebench run` with the options of that run and --overwrite always makes the record again"
_NUMBERS = "biuf"  # the kinds of dtypes that contributions may have
_CHUNK = 1 << 14  # so little is unpacked at once that a member that lies about its size cannot fill the memory
_END = struct.Struct("<4s4H2LH")  # the end of a zip archive, without the comment
_MANY = 0xFFFF  # an archive of so many members or more tells their number elsewhere
_LONGEST_REASON = 200


class DamagedRecordError(DataError):
    """The arrays of a record are missing or damaged. ``path`` is their file, ``reason`` says what is wrong with it."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"The record {path.stem} is damaged: its arrays in {path} are unusable ({reason}); {REMEDY}.")


def write_arrays(file: IO[bytes], arrays: Arrays) -> None:
    """Write as np.savez_compressed does, but with LZMA: the file is a fifth smaller, and np.load reads it, too."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def read_arrays(path: Path, most_unpacked: int | None = None) -> Arrays:
    """Return the arrays in ``path`` as they were before they were packed.

    Args:
        path: The file.
        most_unpacked: The number of bytes that its members may have when they are unpacked.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedRecordError: Anything else is wrong with it, or it cannot be read.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, file)
            if most_unpacked is not None and sum(member.file_size for member in members) > most_unpacked:
                raise ValueError(f"it unpacks to more than {most_unpacked:,} bytes")
            return unpack({member.filename.removesuffix(".npy"): _array(archive, member) for member in members})
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, the packers and numpy raise more than a dozen kinds for damaged files
        raise DamagedRecordError(path, _reason(error)) from error


def contributions(key: str, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return ``KEY.num`` and ``KEY.den``, ``[units]`` each; None unless both are lists of numbers of one length."""
    num, den = arrays.get(f"{key}.num"), arrays.get(f"{key}.den")
    if num is None or den is None or num.ndim != 1 or num.shape != den.shape:
        return None
    return (num, den) if num.dtype.kind in _NUMBERS and den.dtype.kind in _NUMBERS else None


def contribution_problem(record: Record, arrays: Arrays) -> str:
    """Say which contributions ``record`` names without fitting ``arrays``; empty if all are there."""
    for key in dict.fromkeys(m.contributions for m in record.measurements if m.contributions):
        if contributions(key, arrays) is None:
            return f"contributions {key!r}, but no lists of numbers '{key}.num' and '{key}.den' of one length"
    return ""


def storable(dtype: np.dtype) -> bool:
    """Return whether arrays of ``dtype`` may be stored: numbers, text and times, but no objects and no fields."""
    return not dtype.hasobject and dtype.kind != "V"


def _members(archive: zipfile.ZipFile, file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """Return all members. Raises ValueError where the directory lost some, or where one cannot be an array."""
    members = archive.infolist()
    file.seek(-_END.size - len(archive.comment), io.SEEK_END)
    count = _END.unpack(file.read(_END.size))[4]
    if count not in (len(members), _MANY):  # one flipped bit can make an entry of the directory swallow the next one
        raise ValueError(f"it has {count} members, but its directory lists {len(members)}")
    names = [member.filename for member in members]
    for name in names:
        if not name.endswith(".npy"):
            raise ValueError(f"it holds {name!r}, which is not an array")
        if names.count(name) > 1:
            raise ValueError(f"it holds {name!r} twice")
    return members


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Return the array in ``member``. Its header is checked before memory for the array is taken."""
    content = io.BytesIO()
    with archive.open(member) as packed:
        while chunk := packed.read(_CHUNK):  # to the end, where zipfile compares the checksum
            content.write(chunk)
    size = content.tell()
    if size != member.file_size:
        raise ValueError(f"{member.filename!r} has {size:,} bytes instead of {member.file_size:,}")
    content.seek(0)
    version = np.lib.format.read_magic(content)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(content)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(content)
    else:  # the versions after these are for arrays with fields
        raise ValueError(f"{member.filename!r} is an array of an unknown version")
    if not storable(dtype):
        raise ValueError(f"{member.filename!r} holds {dtype}, not plain numbers or text")
    rest = size - content.tell()
    if any(side < 0 for side in shape) or dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(f"{member.filename!r} has {rest:,} bytes of numbers, which its shape does not fit")
    content.seek(0)
    return np.asarray(np.lib.format.read_array(content, allow_pickle=False))


def _reason(error: Exception) -> str:
    """Return the text of ``error`` for the middle of a sentence."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split()).rstrip(".")
    if not text:  # as of EOFError and of some kinds of MemoryError
        text = "it is cut off" if isinstance(error, EOFError) else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
