"""Readers of small files that somebody else wrote: settings of SAEs and models, run configs, cards and boards.

Such a file may be a pipe or a device that never ends, may be huge, and may hold anything. The readers refuse all of
this in one sentence, so that nothing hangs, no memory runs out and no error of Python reaches the user.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from saebench.errors import SaebenchError, UsageError, shown

SMALL = 2**20  # bytes; far more than any file of settings has
MAX_DEPTH = 64  # lists and objects inside each other

Fault = Callable[[str], SaebenchError]  # a class of errors, such as SAELoadError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_small(path: Path, what: str, fault: Fault, limit: int = SMALL) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file. A symbolic link to a regular file is followed.
        what: What messages call the file, such as "config file".
        fault: The class of the error to raise.
        limit: The largest size in bytes.

    Raises:
        SaebenchError: The class ``fault``, when the file does not exist, cannot be read, is no regular file, or is
            larger than ``limit``.
    """
    name = f"{what} {storable_text(str(path))}"
    try:
        return read_regular(path, limit)
    except OSError as error:
        raise fault(f"Cannot read the {name}: {error.strerror or error}.") from error
    except ValueError as error:
        raise fault(f"Cannot read the {name}: {error}.") from error


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: The file does not exist, cannot be read, is no regular file or is too large; ``strerror`` says which.
        ValueError: No file can have this name.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes")
    return content


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, of whatever size.

    Raises:
        OSError: The file does not exist, cannot be read, or is no regular file; ``strerror`` says which.
        ValueError: No file can have this name.
    """
    try:
        _check_regular(os.stat(path).st_mode)
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except ValueError as error:  # the name holds a zero byte, or cannot be encoded
        raise ValueError("no file can have this name") from error
    try:
        _check_regular(os.fstat(file.fileno()).st_mode)
    except OSError:
        file.close()
        raise
    return file


def read_small_text(path: Path, what: str, fault: Fault, limit: int = SMALL) -> str:
    """Return the text of a regular file in UTF-8, without a byte order mark.

    Raises an error of the class ``fault`` as `read_small` does, and when the file is not UTF-8.
    """
    content = read_small(path, what, fault, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = storable_text(str(path))
        raise fault(f"The {what} {name} is not UTF-8 at byte {error.start}; convert it to UTF-8.") from error


def read_json(path: Path, what: str, fault: Fault, limit: int = SMALL) -> Any:
    """Return the value in a small JSON file.

    Raises an error of the class ``fault`` as `read_small_text` and `parse_json` do.
    """
    return parse_json(read_small_text(path, what, fault, limit), f"The {what} {storable_text(str(path))}", fault)


def parse_json(text: str, where: str, fault: Fault, *, unique: bool = False) -> Any:
    """Return the value that a JSON text stands for.

    NaN and Infinity are allowed, because Python writes them, although JSON does not know them.

    Args:
        text: The JSON text.
        where: The beginning of messages, such as "The config file config.json" or "texts.jsonl, line 3,".
        fault: The class of the error to raise.
        unique: Whether an object that names a key twice is refused. Otherwise the last value counts, as in Python.

    Raises:
        SaebenchError: The class ``fault``, when the text is not JSON, holds lists or objects inside each other more
            than ``MAX_DEPTH`` deep, a number of thousands of digits, half a surrogate pair, or a key twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique if unique else None)
    except _Repeated as error:
        raise fault(f"{where} names {shown(error.key)} twice in one object; remove one of them.") from error
    except json.JSONDecodeError as error:
        raise fault(f"{where} is not valid JSON ({error.msg}, line {error.lineno}, column {error.colno}).") from error
    except RecursionError as error:
        raise fault(f"{where} nests lists or objects more than {MAX_DEPTH} deep.") from error
    except ValueError as error:  # Python refuses to read numbers of thousands of digits
        raise fault(f"{where} holds a number with too many digits.") from error
    for depth, text_or_key in _texts(value):
        if depth > MAX_DEPTH:
            raise fault(f"{where} nests lists or objects more than {MAX_DEPTH} deep.")
        if not is_text(text_or_key):
            raise fault(f"{where} holds half a surrogate pair, which is not text: {text_or_key[:50]!a}.")
    return value


class _Repeated(Exception):
    """An object of a JSON text names a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs. Raises _Repeated when two of them have the same key."""
    value: dict[str, Any] = {}
    for key, member in pairs:
        if key in value:
            raise _Repeated(key)
        value[key] = member
    return value


def is_text(text: str) -> bool:
    """Return whether a text can be written as UTF-8. Half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_or_raise(text: str, what: str) -> None:
    r"""Raise UsageError for a text from a command line that holds a byte that is not UTF-8.

    Python turns such a byte into half a surrogate pair. ``what`` says what the text is, such as "SAE reference".
    """
    if not is_text(text):
        raise UsageError(
            f"The {what} {text!a} holds a byte that is not UTF-8, which no record can hold; rename the file or folder."
        )


def storable_text(text: str) -> str:
    r"""Return the text with every half of a surrogate pair escaped, such as ``\udcff`` for a byte that is not UTF-8.

    Names of files and messages of other libraries may hold such halves, which no UTF-8 file can.
    """
    return text.encode("utf-8", errors="backslashreplace").decode()


def existing_path(text: str) -> Path | None:
    """Return the path that a text names, with ``~`` expanded; None if nothing lies there or no file has such a name."""
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # the name is too long, holds a zero byte, or names no user
        return None


def _texts(value: Any) -> Iterator[tuple[int, str]]:
    """Yield the texts and keys in a JSON value with their depth, and an empty text for each list and object."""
    rest = [(0, value)]
    while rest:
        depth, item = rest.pop()
        if isinstance(item, str):
            yield depth, item
        elif isinstance(item, list | dict):
            yield depth + 1, ""
            if isinstance(item, dict):
                rest.extend((depth + 1, key) for key in item)
                item = list(item.values())
            rest.extend((depth + 1, member) for member in item)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file. A pipe that took the place of the file since it was looked at would otherwise wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(mode: int) -> None:
    """Raise OSError unless the mode is that of a regular file."""
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise OSError(0, f"it is {kind}, not a regular file")
