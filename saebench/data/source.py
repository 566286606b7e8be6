"""The bytes of a text or dataset that a user names: unpacked, in UTF-8, and within bounds.

What a file holds decides, not its name: gzip and zstd are unpacked, and UTF-16 and UTF-32 with a byte order mark are
read as well. A pipe or a device, an archive, a damaged file, and one that unpacks to more than fits into memory are
refused in one sentence.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import psutil
import zstandard

from saebench.errors import DataError
from saebench.files import open_regular, storable_text

MAX_BYTES = 4 * 2**30  # of a text, unpacked; an evaluation reads a thousandth of it
MAX_LINE = 2**26  # bytes
MAX_LINES = 10_000_000
# Text is packed to a tenth of its size, or to a hundredth if it repeats itself much. What unpacks to far more was made
# to do harm, and is given up early.
MAX_RATIO, RATIO_FROM = 400, 2**28

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_OTHERS = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet)",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"ARROW1": "an Arrow file",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "a database",
    b"\x93NUMPY": "an array of NumPy",
    b"\x89HDF": "an HDF5 file",
}
_MARKS = {  # the longer mark first, because that of UTF-16 is the beginning of that of UTF-32
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HEAD = 512  # the bytes that tell what a file is
_PACKED_PIECE = 2048  # bytes; zstd unpacks them to 64 MB at most
_WINDOW = 2**27  # the most memory that unpacking zstd may take, as in zstd's own program


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a text file in UTF-8, each with the line break that ends it, and without a byte order mark.

    Raises:
        DataError: The file cannot be read, is no text, is damaged, or is larger than memory or the bounds above allow.
    """
    with _opened(path) as stream:
        total, most = 0, most_bytes()
        for number in range(1, MAX_LINES + 2):
            line = stream.readline(MAX_LINE + 1)
            total += len(line)
            if not line:
                return
            if len(line) > MAX_LINE:
                raise DataError(
                    f"{_name(path)}, line {number}: the line is longer than {MAX_LINE:,} bytes; divide it into several."
                )
            if total > most:
                raise too_large(path, most)
            yield line
    raise DataError(f"{_name(path)} has more than {MAX_LINES:,} lines; give a part of it.")


def read_content(path: Path) -> bytes:
    """Return the unpacked content of a file. Raises DataError as `read_lines` does."""
    with _opened(path) as stream:
        most = most_bytes()
        content = stream.read(most + 1)
    if len(content) > most:
        raise too_large(path, most)
    return content


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file as it is. Raises DataError if it cannot be read or is no regular file."""
    with _reading(path), open_regular(path) as file:
        return file.read(_HEAD)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading what is in it: unpacked, and in UTF-8."""
    with _reading(path), open_regular(path) as file:
        head = file.read(_HEAD)
        file.seek(0)
        _check(path, head)
        stream = file
        if head.startswith((GZIP, ZSTD)):
            pieces = _ungzipped(file) if head.startswith(GZIP) else _unzstd(file)
            unpacked = _buffered(_believable(pieces, path, os.fstat(file.fileno()).st_size))
            head = unpacked.peek(_HEAD)[:_HEAD]
            _check(path, head, packed=True)
            stream = unpacked
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
        if encoding is not None:
            stream = _buffered(_recoded(stream, encoding))
        elif head.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        yield stream


def _check(path: Path, head: bytes, packed: bool = False) -> None:
    """Raise DataError if a file begins like something else than text."""
    name = f"{_name(path)}{', unpacked,' if packed else ''}"
    if head.startswith(PARQUET):
        how = (
            f"unpack it and give 'parquet:{_name(path.with_suffix(''))}'" if packed else f"give 'parquet:{_name(path)}'"
        )
        raise DataError(f"{name} is a Parquet file; {how}.")
    if packed and head.startswith((GZIP, ZSTD)):
        raise DataError(f"{_name(path)} is packed twice; unpack it once.")
    if head[257:262] == b"ustar":
        raise DataError(f"{name} is a tar archive; unpack it and give one of the files in it.")
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise DataError(
                f"{name} is {what}, which is not read as text; give its content as JSON Lines, CSV, Parquet or plain "
                "text."
            )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of reading and unpacking a file into DataError."""
    name = _name(path)
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError, EOFError) as error:
        reason = "it ends too early" if isinstance(error, EOFError) else str(error).strip(". ")
        raise DataError(f"{name} cannot be unpacked ({reason}); get a complete copy of it.") from error
    except UnicodeDecodeError as error:
        mark = error.encoding.upper()
        raise DataError(f"{name} begins as {mark} does, but is not valid {mark}; convert it to UTF-8.") from error
    except OSError as error:
        raise DataError(f"Cannot read {name}: {error.strerror or error}.") from error
    except ValueError as error:  # no file can have this name
        raise DataError(f"Cannot read {name}: {error}.") from error


def _buffered(pieces: Iterator[bytes]) -> io.BufferedReader:
    """Return a buffered stream of the bytes that an iterator gives."""
    return io.BufferedReader(cast(io.RawIOBase, _Pieces(pieces)))


class _Pieces(io.RawIOBase):
    """The bytes that an iterator gives, as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n


def _believable(pieces: Iterator[bytes], path: Path, packed: int) -> Iterator[bytes]:
    """Yield unpacked pieces. Raises DataError when they are far more than ``packed`` bytes of text can become."""
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > max(RATIO_FROM, MAX_RATIO * packed):
            raise DataError(
                f"{_name(path)} unpacks to too much: more than {MAX_RATIO} times its size, as no text does. If you "
                "trust it, unpack it and give the unpacked file."
            )
        yield piece


def _ungzipped(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as unpacked:
        while piece := unpacked.read(2**16):
            yield piece


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of all frames. Raises EOFError if the last one is incomplete."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    frame = decompressor.decompressobj()
    begun = False
    while packed := file.read(_PACKED_PIECE):
        while packed:
            begun = True
            yield frame.decompress(packed)
            packed = b""
            if frame.eof:
                packed, frame, begun = frame.unused_data, decompressor.decompressobj(), False
    if begun:
        raise EOFError


def _recoded(stream: BinaryIO, encoding: str) -> Iterator[bytes]:
    """Yield a text in UTF-8 that is encoded otherwise and begins with a byte order mark."""
    decoder = codecs.getincrementaldecoder(encoding)()
    while piece := stream.read(2**16):
        yield decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()


def most_bytes() -> int:
    """Return the most bytes that a text may have here: half of the free memory, but no more than `MAX_BYTES`."""
    return min(MAX_BYTES, max(2**26, psutil.virtual_memory().available // 2))


def too_large(path: Path, most: int) -> DataError:
    return DataError(
        f"{_name(path)} holds more than {most / 1e9:.1f} GB of text, which is too much for the memory of this machine "
        "or for an evaluation; give a part of it."
    )


def _name(path: Path) -> str:
    return storable_text(str(path))
