"""Files of rows with named fields, in each of the formats that are read, and the names of such files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from saebench.data.csv_rows import read_csv
from saebench.data.json_lines import read_json_lines
from saebench.data.parquet import read_parquet
from saebench.data.rows import Row
from saebench.data.source import GZIP, PARQUET, ZSTD, head_of
from saebench.errors import DataError, UsageError
from saebench.files import storable_text

FORMATS = ("jsonl", "csv", "parquet")  # the schemes of files of rows


def read_rows(path: Path, format: str, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file with at least the wanted fields; in JSON Lines, each row has its own.

    Args:
        path: The file.
        format: One of `FORMATS`.
        columns: The fields that the caller reads.

    Raises:
        DataError: The file cannot be read; the message names the row.
    """
    match format:
        case "csv":
            return read_csv(path, columns)
        case "parquet":
            return read_parquet(path, columns)
        case _:
            return read_json_lines(path)


def existing_file(path: str, what: str) -> Path:
    """Return the path of a file, with ``~`` for the home folder. Raises UsageError if there is no such file.

    Args:
        path: The path as the user wrote it.
        what: What the message calls the file, such as "text file".
    """
    expanded = os.path.expanduser(path)  # unlike Path.expanduser, leaves an unknown ~USER as it is
    if not os.path.isfile(expanded):  # unlike Path.is_file, also False for names that no file can have
        raise UsageError(f"The {what} {path!r} does not exist or is not a file.")
    return Path(expanded)


def suggestion(ref: str, schemes: Sequence[str]) -> str:
    """Return a sentence with the reference to write if ``ref`` is the path of a file, or else an empty text.

    What the file holds decides about the scheme, and its name where that says nothing.
    """
    if not os.path.isfile(ref):
        return ""
    scheme = _scheme(Path(ref))
    return f" It is a file; write '{scheme}:{storable_text(ref)}'." if scheme in schemes else ""


def stem(path: PurePath) -> str:
    """Return the name of a file without its ending and without that of its compression."""
    packed = path.suffix.lower() in (".gz", ".zst")
    return PurePath(path.stem).stem if packed else path.stem


def _scheme(path: Path) -> str:
    try:
        head = head_of(path)
    except DataError:
        head = b""
    if head.startswith(PARQUET):
        return "parquet"
    endings = {ending.lower() for ending in path.suffixes[-2:]}
    if ".csv" in endings:
        return "csv"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "jsonl"
    packed_lines = head.startswith((GZIP, ZSTD)) and endings & {".jsonl", ".ndjson", ".json"}
    return "jsonl" if packed_lines else "txt"
