"""A reader of plain text, whose documents are separated by empty lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from saebench.data.source import read_lines
from saebench.errors import DataError
from saebench.files import storable_text


def read_plain_text(path: Path) -> Iterator[str]:
    """Yield the documents of a file: the lines between lines that are empty or hold only white space.

    The file may be packed, see `saebench.data.source`.

    Raises:
        DataError: The file cannot be read, or is not UTF-8.
    """
    name = storable_text(str(path))
    document: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        if line.isspace() and not document:  # a file may have millions of such lines
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}, line {number}: this is not UTF-8; convert the file to UTF-8.") from error
        if "\0" in text:
            raise DataError(
                f"{name}, line {number}: there is a zero byte, so this is no text in UTF-8; convert the file to UTF-8."
            )
        if text.strip():
            document.append(text.rstrip("\r\n"))
        elif document:
            yield "\n".join(document)
            document = []
    if document:
        yield "\n".join(document)
