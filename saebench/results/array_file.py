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
from pathlib import Path
from typing import IO

import numpy as np

from saebench.errors import DataError
from saebench.files import is_text, read_regular
from saebench.results.packing import unpack
from saebench.results.record import Arrays
from saebench.safe_text import short

REMEDY = "`saebench run` with the options of that run and --overwrite always makes the record again"
_CHUNK = 1 << 14  # so little is unpacked at once that a member that lies about its size cannot fill the memory
_END = struct.Struct("<4s4H2LH")  # the end of a zip archive, without the comment
_MANY = 0xFFFF  # an archive of so many members or more tells their number elsewhere
MOST_UNPACKED = 2**28  # bytes; the arrays of the largest records have a hundredth of it


class DamagedRecordError(DataError):
    """The arrays of a record are missing or damaged.

    Attributes:
        path: Their file.
        reason: What is wrong with it.
        remedy: How to make the record again.
    """

    def __init__(self, path: Path, reason: str, remedy: str = REMEDY) -> None:
        self.path, self.reason, self.remedy = path, reason, remedy
        super().__init__(
            f"The record {path.stem} is damaged: its arrays in {short(path)} are unusable ({reason}); {remedy}."
        )


def write_arrays(file: IO[bytes], arrays: Arrays) -> None:
    """Write ``arrays`` as np.savez_compressed does, but with LZMA: the file is a fifth smaller, and np.load reads it.

    LZMA needs 94 MB. Where they cannot be had, the file is packed with deflate, which needs a third of a megabyte, or
    not at all.

    Raises:
        MemoryError: There is not even the memory to write the arrays as they are.
    """
    start = file.tell()
    for packing in (zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED):
        try:
            return _write(file, arrays, packing)
        except MemoryError:
            file.seek(start)
            file.truncate()
    _write(file, arrays, zipfile.ZIP_STORED)


def read_arrays(path: Path, most_unpacked: int = MOST_UNPACKED) -> Arrays:
    """Return the arrays in ``path`` as they were before they were packed.

    Args:
        path: The file.
        most_unpacked: The number of bytes that its members may have when they are unpacked.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedRecordError: Anything else is wrong with it, or it cannot be read.
    """
    try:
        with io.BytesIO(read_regular(path, MOST_UNPACKED)) as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, file)
            if sum(member.file_size for member in members) > most_unpacked:
                raise ValueError(f"it unpacks to more than {most_unpacked:,} bytes")
            arrays = unpack({member.filename.removesuffix(".npy"): _array(archive, member) for member in members})
            for name, array in arrays.items():
                _check_text(name, array)
            return arrays
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, the packers and numpy raise more than a dozen kinds for damaged files
        raise DamagedRecordError(path, _reason(error)) from error


def storable(dtype: np.dtype) -> bool:
    """Return whether arrays of ``dtype`` may be stored: numbers, text and times, but no objects and no fields."""
    return not dtype.hasobject and dtype.kind != "V"


def _write(file: IO[bytes], arrays: Arrays, packing: int) -> None:
    archive = zipfile.ZipFile(file, "w", packing)
    try:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.close()
    except BaseException:
        archive.fp = None  # what is written is not to be completed, neither now nor when the archive is collected
        raise


def _members(archive: zipfile.ZipFile, file: IO[bytes]) -> list[zipfile.ZipInfo]:
    """Return all members. Raises ValueError where the directory lost some, or where one cannot be an array."""
    members = archive.infolist()
    file.seek(-_END.size - len(archive.comment), io.SEEK_END)
    count = _END.unpack(file.read(_END.size))[4]
    if count not in (len(members), _MANY):  # one flipped bit can make an entry of the directory swallow the next one
        raise ValueError(f"it has {count} members, but its directory lists {len(members)}")
    names = set()
    for name in (member.filename for member in members):
        if not name.endswith(".npy"):
            raise ValueError(f"it holds {name!r}, which is not an array")
        if name in names:
            raise ValueError(f"it holds {name!r} twice")
        names.add(name)
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


def _check_text(name: str, array: np.ndarray) -> None:
    """Raise an error if ``name`` or an element of ``array`` is text that is not Unicode; numpy raises several kinds."""
    texts = array.astype(str).ravel().tolist() if array.dtype.kind in "US" else []
    if not all(map(is_text, [name, *texts])):
        raise ValueError(f"{name!r} holds text that is not Unicode")


def _reason(error: Exception) -> str:
    """Return the text of ``error`` for the middle of a sentence."""
    text = short(error.strerror if isinstance(error, OSError) and error.strerror else error).rstrip(".")
    if text:
        return text
    names = {EOFError: "it is cut off", MemoryError: "there is not enough memory for them"}
    return next((name for kind, name in names.items() if isinstance(error, kind)), type(error).__name__)
