"""Checking a folder of records: is every file in its place, whole, consistent, and free of private data?"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebench.atomic import is_temporary
from saebench.cards.registry import registry
from saebench.errors import UsageError, did_you_mean
from saebench.files import read_regular
from saebench.results.array_file import REMEDY, DamagedRecordError, read_arrays
from saebench.results.identity import ID_LENGTH
from saebench.results.record import Arrays, Record, Status
from saebench.results.record_file import NotARecordError, parse_record
from saebench.results.store import ResultStore
from saebench.safe_text import short
from saebench.submission import hygiene
from saebench.submission.record_checks import (
    array_problems,
    card_problems,
    identity_problems,
    number_problems,
    provenance_problems,
)

MAX_JSON_BYTES = 2_000_000
MAX_ARRAYS_BYTES = 10_000_000  # the size of the file; unpacked it may be ten times as large
_LEFTOVER = "was left by a process that was killed; delete it, or let the next `saebench run` into this folder do so"
_STEM = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


@dataclass(frozen=True)
class Finding:
    """One problem of one file. A warning does not prevent publication."""

    path: str  # relative to the folder, with slashes
    message: str
    warning: bool = False


@dataclass(frozen=True)
class FolderReport:
    """What `check_folder` found."""

    records: int  # how many files of records there are
    findings: tuple[Finding, ...]  # in the order of paths

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.warning)


class _Unreadable(Exception):
    """Says why a file cannot be checked any further."""


def check_folder(root: Path | str) -> FolderReport:
    """Return everything that is wrong in the folder of records ``root``. Raises UsageError when there is no folder."""
    root = Path(root)
    if not _is_folder(root):
        where = short(root)
        raise UsageError(f"There is no folder {where}; name a folder of records, as `saebench run --out` writes it.")
    findings: list[Finding] = []
    places: dict[str, list[str]] = defaultdict(list)
    records = 0
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if is_temporary(path.name):
            findings.append(Finding(name, _LEFTOVER, warning=True))
        elif problem := _not_of_a_store(path):
            findings.append(Finding(name, problem))
        elif path.suffix == ".json":
            records += 1
            places[path.stem].append(name)
            findings += check_record(path, root)
    for names in places.values():
        findings += [Finding(name, f"is a second copy of the record {names[0]}") for name in names[1:]]
    return FolderReport(records, tuple(sorted(findings, key=lambda finding: finding.path)))


def check_record(path: Path, root: Path) -> list[Finding]:
    """Return everything that is wrong with the record in ``path``, a file below ``root``, and with its arrays."""
    name = path.relative_to(root).as_posix()
    try:
        record, content = _record(path)
    except _Unreadable as error:
        return [Finding(name, str(error))]
    findings = [Finding(name, problem) for problem in _problems(record, content, path, root)]
    arrays_path = path.with_suffix(".npz")
    try:
        arrays = _arrays(arrays_path)
    except _Unreadable as error:
        findings.append(Finding(arrays_path.relative_to(root).as_posix(), str(error)))
    else:
        findings += [Finding(name, problem) for problem in array_problems(record, arrays)]
        findings += [Finding(name, problem) for problem in _private(_texts(arrays))]
    return [*findings, *_against_card(name, record), *_warnings(name, record)]


def _problems(record: Record, content: Any, path: Path, root: Path) -> Iterator[str]:
    if record.record_id != path.stem:
        yield f"holds the record {record.record_id}"
    elif (place := ResultStore(root).path(record)) != path:
        yield f"belongs at {place.relative_to(root).as_posix()}"
    yield from identity_problems(record)
    yield from provenance_problems(record)
    yield from number_problems(record)
    yield from _private(content)


def _against_card(name: str, record: Record) -> list[Finding]:
    task = record.identity.task
    if task not in (known := registry().names()):
        hint = did_you_mean(task, known)
        message = f"its task {task!r} is not installed here, so no card says what its numbers may be.{hint}"
        return [Finding(name, message, warning=True)]
    return [Finding(name, problem) for problem in card_problems(record)]


def _warnings(name: str, record: Record) -> Iterator[Finding]:
    if record.status is Status.FAILED:
        yield Finding(name, f"holds no numbers, because the job failed ({record.error})", warning=True)
    if record.provenance.git_dirty:
        yield Finding(name, "was made by a checkout with changes, so nobody can reproduce it", warning=True)


def _private(content: Any) -> Iterator[str]:
    for place, text in hygiene.strings(content):
        for finding in hygiene.findings(text):
            yield f"{place or 'the file'} {finding}"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # no folder can have this name
        return False


def _not_of_a_store(path: Path) -> str:
    """Say why ``path`` is not a file or folder of a store; empty when it is one."""
    named_like_a_record = path.suffix in (".json", ".npz") and _STEM.fullmatch(path.stem) is not None
    if path.is_symlink():
        return "is a link; only plain files are accepted"
    if path.is_dir():
        if named_like_a_record and not (path.suffix == ".npz" and path.with_suffix(".json").exists()):
            return "is a folder, but has the name of a record"
        return "" if os.access(path, os.R_OK | os.X_OK) else "cannot be read: the permission is missing"
    if not path.is_file() or not named_like_a_record:
        return f"is not a record: a record is a file whose name is its id ({ID_LENGTH} hex digits) with .json or .npz"
    if path.suffix == ".npz" and not path.with_suffix(".json").exists():
        return "holds the arrays of a record that is missing"
    return ""


def _record(path: Path) -> tuple[Record, Any]:
    """Return the record in ``path`` and its JSON value, in which no key may appear twice."""
    try:
        content = read_regular(path, MAX_JSON_BYTES)
        record = parse_record(content)
        return record, json.loads(content, object_pairs_hook=_unique)
    except OSError as error:
        raise _Unreadable(f"cannot be read: {short(error.strerror or error)}") from error
    except NotARecordError as error:
        raise _Unreadable(f"is not a record: {short(error, 400).rstrip('.')}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _Unreadable("has a key twice in one object")
    return values


def _arrays(path: Path) -> Arrays:
    """Return the arrays of a record; none if there is no file. Sizes are checked before anything is unpacked."""
    if not path.exists():
        return {}
    if (size := path.stat().st_size) > MAX_ARRAYS_BYTES:
        raise _Unreadable(f"has {size:,} bytes; arrays have at most {MAX_ARRAYS_BYTES:,}")
    try:
        return read_arrays(path, most_unpacked=10 * MAX_ARRAYS_BYTES)
    except DamagedRecordError as error:
        raise _Unreadable(f"is damaged: it cannot be read as arrays ({error.reason}); {REMEDY}") from error


def _texts(arrays: Arrays) -> dict[str, list[str]]:
    """Return the names of the arrays with the text in those that hold text."""
    return {
        key: array.astype(str).ravel().tolist() if array.dtype.kind in "US" else [] for key, array in arrays.items()
    }
