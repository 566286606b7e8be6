"""Reading the JSON files of records. Anybody may have written them, so each is checked alone and completely.

A file that is not a record is named with the reason, and hides no other record: see `saebench.results.collection`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from saebench.errors import DataError
from saebench.files import parse_json, read_regular
from saebench.results.identity import ID_LENGTH, record_id
from saebench.results.record import SCHEMA_VERSION, Record
from saebench.results.rules import json_problem, record_problem
from saebench.safe_text import short
from saebench.version import __version__

MAX_BYTES = 2**24  # a hundred times the size of the largest records
_LONGEST_REASON = 400
_STEM = rf"[0-9a-f]{{{ID_LENGTH}}}"
_RECORD_FILE = re.compile(rf"{_STEM}\.json")


class BadRecordError(DataError):
    """A file that is named like a record holds none. ``path`` is the file, ``reason`` says what is wrong with it."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"Leaving out {short(path)}: {reason}.")


class NotARecordError(DataError):
    """Content that is not a record. Its text says why, for the end of a sentence."""


def is_record_file(name: str) -> bool:
    """Return whether a file of this name should be a record: an id and ``.json``."""
    return _RECORD_FILE.fullmatch(name) is not None


def record_files(root: Path) -> tuple[list[Path], list[BadRecordError]]:
    """Return the files below ``root`` that should be records, in the order of paths, and what hides others.

    Links to folders are not followed. A folder that cannot be read, or that is named like a record, is an error.
    """
    files: list[Path] = []
    errors: list[BadRecordError] = []

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # it was removed since its parent was listed
            errors.append(BadRecordError(Path(error.filename), f"the folder cannot be read ({error.strerror})"))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        files += [Path(folder, name) for name in names if is_record_file(name)]
        for name in list(filter(is_record_file, folders)):
            errors.append(BadRecordError(Path(folder, name), "it is a folder, not a file"))
            folders.remove(name)
    return sorted(files), errors


def read_record_file(path: Path) -> Record:
    """Return the record in ``path``.

    Raises:
        FileNotFoundError: There is no such file; it may have been replaced or removed since it was listed.
        BadRecordError: The file is not a record that this version of saebench can read.
    """
    try:
        record = parse_record(read_regular(path, MAX_BYTES))
    except FileNotFoundError as error:
        if path.is_symlink():
            raise BadRecordError(path, "it is a link to a file that does not exist") from error
        raise
    except OSError as error:
        raise BadRecordError(path, short(error.strerror or error)) from error
    except (NotARecordError, ValueError) as error:
        raise BadRecordError(path, short(error, _LONGEST_REASON).rstrip(".")) from error
    if record.record_id != path.stem:
        raise BadRecordError(path, f"it holds the record {short(record.record_id)}")
    return record


def parse_record(content: bytes) -> Record:
    """Return the record that ``content`` is the JSON of.

    Raises NotARecordError for anything that `saebench.results.store.ResultStore` would not have written.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotARecordError(f"it is not UTF-8 at byte {error.start}") from error
    value = parse_json(text, "it", NotARecordError)
    if not isinstance(value, dict):
        raise NotARecordError("it is not a JSON object")
    check_schema_version(value.get("schema_version", SCHEMA_VERSION))
    if problem := json_problem(value):
        raise NotARecordError(problem)
    try:
        record = Record.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise NotARecordError(_explain(error, value)) from error
    if problem := record_problem(record):
        raise NotARecordError(problem)
    if record.record_id != (expected := record_id(record.identity)):
        raise NotARecordError(
            f"its id is {short(record.record_id)}, but its identity gives {expected}: it was edited, or another "
            "version of saebench made it"
        )
    return record


def check_schema_version(version: object) -> None:
    """Raise NotARecordError unless ``version`` is the schema version that this saebench reads."""
    if type(version) is not int or version < 1:
        raise NotARecordError(f"its schema version is {short(repr(version))}, which no saebench wrote")
    if version != SCHEMA_VERSION:
        raise NotARecordError(
            f"it was written by a newer saebench (its schema version is {short(version)}, this one reads "
            f"{SCHEMA_VERSION}); update saebench"
        )


def _explain(error: ValidationError, value: dict[str, Any]) -> str:
    """Say what is wrong first. A field that this version does not know comes from a later one."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    place = short(".".join(map(str, first["loc"])))
    more = f" (and {len(problems) - 1:,} more problems)" if len(problems) > 1 else ""
    if first["type"] != "extra_forbidden":
        return f"it is not a record: {place}: {short(first['msg'])}{more}"
    provenance = value.get("provenance")
    version = provenance.get("saebench_version") if isinstance(provenance, dict) else None
    return (
        f"it was written by a newer saebench (version {short(version, 40)}, this is {__version__}) or is not a record: "
        f"the field {place} is unknown{more}"
    )
