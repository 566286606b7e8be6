"""What a folder holds, in a form that does not depend on when and where it was made."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_RECORD = re.compile(r"[0-9a-f]{16}\.json")
_MEMORIES = ("verified.json",)  # what only saves time: it differs between places, and is ignored when it is damaged
_SHARD = re.compile(r"\d{8,}-\d{8,}-([0-9a-f]{32})\.safetensors")


@dataclass
class Contents:
    """The files of a folder.

    Attributes:
        files: The content of each file by its path. Of a record it is everything but its provenance, of arrays their
            names, types, shapes and bytes.
        torn: Why a file cannot be read, by its path.
        temporary: Files and folders that a process makes on the way to others.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    torn: dict[str, str] = field(default_factory=dict)
    temporary: list[str] = field(default_factory=list)


def contents(*folders: Path, root: Path) -> Contents:
    """Return what ``folders`` hold, with paths relative to ``root``.

    Links are not followed; locks and memories do not count.
    """
    result = Contents()
    for path in sorted(path for folder in folders for path in _walk(folder)):
        name = path.relative_to(root).as_posix()
        if _is_temporary(path.relative_to(root)):
            result.temporary.append(name)
        elif path.is_file() and path.suffix != ".lock" and path.name not in _MEMORIES:
            try:
                result.files[name] = _content(path)
            except FileNotFoundError:
                continue
            except Exception as error:  # whatever a reader says, the file is damaged
                result.torn[name] = f"{type(error).__name__}: {error}"
    return result


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir() if folder.is_dir() else ():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _is_temporary(path: Path) -> bool:
    if path.name.startswith(".tmp-"):
        return True
    return ".staging" in path.parts and path.name != ".staging"


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        value = json.loads(data)
        if _RECORD.fullmatch(path.name):
            from saebench.results.record import Record

            Record.model_validate_json(data)
            del value["provenance"]
            return json.dumps(value, sort_keys=True).encode()
    elif path.suffix == ".npz":
        return _arrays(path)
    elif (match := _SHARD.fullmatch(path.name)) and hashlib.sha256(data).hexdigest()[:32] != match[1]:
        raise ValueError("its checksum is wrong")
    return data


def _arrays(path: Path) -> bytes:
    from saebench.results.array_file import read_arrays

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arrays = read_arrays(path)
    parts = [
        f"{name} {array.dtype.str} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
        for name, array in sorted(arrays.items())
    ]
    return "\n".join(parts).encode()
