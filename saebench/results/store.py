"""The folder of records: one JSON file per job at a predictable path, with its arrays (``.npz``) beside it.

The path is ``<root>/<model>/<hook>/<sae>/<task>/<record_id>.json``; folder names are slugs (`saebench.results.slug`).
Any number of processes may write into one folder at once. The arrays are written first and the JSON last, and each file
is moved into place whole, so that a JSON file never lacks its arrays. There are no locks: equal identities mean equal
content, so it does not matter which of two writers of one record comes last. Where their arrays differ in the last
digits all the same, the checksum in the JSON shows whether both files come from one writer, and each writer looks.
"""

from __future__ import annotations

import json
import math
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from saebench.atomic import remove_abandoned_below, temporary_name, write_atomic
from saebench.errors import SaebenchError, UsageError
from saebench.results.array_file import MOST_UNPACKED, DamagedRecordError, storable, write_arrays
from saebench.results.identity import record_id
from saebench.results.packing import pack
from saebench.results.record import Arrays, Identity, Measurement, Record, Status
from saebench.results.record_arrays import arrays_of, checksum, contribution_problem
from saebench.results.record_file import (
    BadRecordError,
    NotARecordError,
    is_record_file,
    parse_record,
    read_record_file,
    record_files,
)
from saebench.results.rules import scorable
from saebench.results.slug import slug

OverwritePolicy = Literal["missing", "failed", "always"]
_MIN_FREE_BYTES = 50_000_000
_ATTEMPTS = 3  # to write a record whose folder is removed, or whose arrays are replaced, at the same moment


class ResultStore:
    """The records below ``root``. Iterating yields every readable record, in the order of paths."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, record: Record) -> Path:
        """Return where the JSON of ``record`` is, or would be."""
        who = record.identity
        folder = self.root / slug(who.model) / slug(record.sae.hook) / slug(who.sae) / slug(who.task)
        return folder / f"{record.record_id}.json"

    def write(self, record: Record, arrays: Arrays | None = None) -> Path:
        """Write ``record`` and its arrays, and return the path of the JSON.

        Numbers that are NaN, infinite or too large are written as null with a ``not_scored`` reason. Failed records of
        the same request that knew less (an SAE that could not be loaded has no fingerprint) are replaced. Whatever has
        the name of the record without being a record is moved aside.

        Raises:
            SaebenchError: The record is one that `saebench.results.record_file` would not read: its id does not fit the
                identity, contributions that a measurement names are missing, or an array holds Python objects, for
                example.
            OSError: The files cannot be written.
        """
        arrays = arrays or {}
        path = self.path(record)
        content = _content(record, arrays)
        for attempt in range(_ATTEMPTS):
            try:
                self._write(path, content, arrays)
            except FileNotFoundError:  # somebody removed the folder in between
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            if not arrays or _belong_together(path):
                break
        self._remove_superseded(record, path)
        return path

    def __iter__(self) -> Iterator[Record]:
        files, errors = record_files(self.root)
        for error in errors:
            warnings.warn(str(error), stacklevel=2)
        yield from filter(None, map(read_record, files))

    def read(self, record_id: str) -> Record | None:
        """Return the record with this id; None when there is none, or only a damaged one, which a warning names."""
        if not is_record_file(f"{record_id}.json"):
            return None
        return _first(read_record(path) for path in sorted(self.root.rglob(f"{record_id}.json")))

    def find(self, identity: Identity) -> Record | None:
        """Return the record of ``identity`` as `read` does, looking only into the folders that may hold it."""
        return _first(read_record(path) for path in self._siblings(identity, f"{record_id(identity)}.json"))

    def holds(self, record: Record) -> bool:
        """Return whether there is a file for ``record``, without reading it."""
        return any(path.is_file() for path in self._siblings(record.identity, f"{record.record_id}.json"))

    def arrays(self, record: Record) -> Arrays:
        """Return the arrays of ``record``; none for a record that is not ok.

        They are the contributions ``<key>.num`` and ``<key>.den``, ``[units]``, and the arrays that the task added.
        Raises DamagedRecordError, which says how to make the record again, whatever is wrong with them.
        """
        path = self.path(record)
        if not path.with_suffix(".npz").exists():  # `root` may be a part of a larger store
            path = next(self.root.rglob(path.name), path)
        return arrays_of(record, path)

    def damage(self, record: Record) -> str:
        """Say what is wrong with the arrays of ``record``; empty when all is well."""
        try:
            self.arrays(record)
        except DamagedRecordError as error:
            return error.reason
        return ""

    def _write(self, path: Path, content: bytes, arrays: Arrays) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if arrays:
            _make_room(path.with_suffix(".npz"))
            write_atomic(path.with_suffix(".npz"), lambda file: write_arrays(file, _packed(arrays)))
        _make_room(path)
        write_atomic(path, lambda file: file.write(content))

    def _siblings(self, identity: Identity, pattern: str) -> Iterator[Path]:
        """Yield files of the same model, SAE and task at any hook; a failed record may not know its hook."""
        folder = self.root / slug(identity.model)
        yield from sorted(folder.glob(f"*/{slug(identity.sae)}/{slug(identity.task)}/{pattern}"))

    def _remove_superseded(self, record: Record, path: Path) -> None:
        for other_path in self._siblings(record.identity, "*.json"):
            if other_path == path or not is_record_file(other_path.name):
                continue
            other = read_record(other_path)
            if other and other.status is Status.FAILED and _knew_less(other.identity, record.identity):
                other_path.unlink(missing_ok=True)
                other_path.with_suffix(".npz").unlink(missing_ok=True)


def read_record(path: Path) -> Record | None:
    """Return the record in ``path``; None, with a warning, when the file is truncated, edited or not a record."""
    try:
        return read_record_file(path)
    except FileNotFoundError:
        return None
    except BadRecordError as error:
        warnings.warn(str(error), stacklevel=2)
        return None


def writable_or_raise(root: Path | str) -> None:
    """Create ``root`` and write into it, to find out before hours of work. Remove what killed writers left there.

    Raises UsageError when it cannot be written or when its disk is almost full.
    """
    root = Path(root)
    probe = root / temporary_name()
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
        remove_abandoned_below(root)
        free = shutil.disk_usage(root).free
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"Cannot write results into {root} ({reason}); choose another folder.") from error
    if free < _MIN_FREE_BYTES:
        raise UsageError(
            f"Only {free / 1e6:.0f} MB are free on the disk of the results ({root}); "
            f"free at least {_MIN_FREE_BYTES / 1e6:.0f} MB or choose another folder."
        )


def needed(existing: Record | None, policy: OverwritePolicy) -> bool:
    """Return whether a job must run when ``existing`` is the record of its identity.

    The policy ``missing`` runs only jobs without a record. ``failed`` also runs those whose record says failed; not
    applicable is an answer, not a failure. ``always`` runs every job.
    """
    if existing is None or policy == "always":
        return True
    return policy == "failed" and existing.status is Status.FAILED


def _text(content: dict[str, Any]) -> str:
    """Return JSON with one line for each field and each measurement."""
    lines = []
    for name, value in content.items():
        if name == "measurements" and value:
            rows = ",\n".join(f"    {_json(_without_nulls(measurement))}" for measurement in value)
            lines.append(f"  {_json(name)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {_json(name)}: {_json(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _without_nulls(measurement: dict[str, Any]) -> dict[str, Any]:
    """Return ``measurement`` without fields that are null, except the value."""
    return {name: value for name, value in measurement.items() if value is not None or name == "value"}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _first(records: Iterator[Record | None]) -> Record | None:
    return next((record for record in records if record is not None), None)


def _knew_less(failed: Identity, now: Identity) -> bool:
    """Return whether ``failed`` is the same request, except for fingerprints and data that it could not establish."""
    contents = {"model_fingerprint", "sae_fingerprint", "data"}
    if failed.model_dump(exclude=contents) != now.model_dump(exclude=contents):
        return False
    return (
        failed.model_fingerprint in ("", now.model_fingerprint)
        and failed.sae_fingerprint in ("", now.sae_fingerprint)
        and failed.data in ({}, now.data)
    )


def _content(record: Record, arrays: Arrays) -> bytes:
    """Return the JSON file of ``record``. Raises SaebenchError unless it and ``arrays`` can be read again."""
    for key, array in arrays.items():
        if not storable(array.dtype):
            raise SaebenchError(
                f"Array {key!r} of task {record.identity.task!r} holds Python objects or has fields; use plain numbers."
            )
    if sum(array.nbytes for array in arrays.values()) > MOST_UNPACKED:
        raise SaebenchError(f"The arrays of task {record.identity.task!r} have more than {MOST_UNPACKED:,} bytes.")
    if problem := contribution_problem(record, arrays):
        raise SaebenchError(f"Task {record.identity.task!r} names {problem}.")
    hashed = record.model_copy(update={"arrays_sha256": checksum(arrays) if record.status is Status.OK else None})
    content = _text(_storable(hashed)).encode("utf-8")
    try:
        parse_record(content)
    except NotARecordError as error:
        raise SaebenchError(f"The record of task {record.identity.task!r} cannot be stored: {error}.") from error
    return content


def _packed(arrays: Arrays) -> Arrays:
    try:
        return pack(arrays)
    except MemoryError:  # stacks are copies
        return arrays


def _belong_together(path: Path) -> bool:
    """Return whether the arrays beside ``path`` are those of the record in it, whoever wrote either."""
    record = read_record(path)
    if record is None:
        return True  # removed, or written by another version
    try:
        arrays_of(record, path)
    except DamagedRecordError:
        return False
    return True


def _make_room(path: Path) -> None:
    """Move a folder of the name of a file aside, because it cannot be replaced by one."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f"not-a-record-{path.name}-{uuid.uuid4().hex[:8]}")
        path.rename(aside)
        warnings.warn(f"{path} was a folder, where a record belongs; it is now called {aside.name}.", stacklevel=2)


def _storable(record: Record) -> dict[str, Any]:
    """Return ``record`` as JSON values without NaN or infinities; a measurement without a value has a reason."""
    scored = record.model_copy(update={"measurements": [_with_reason(m) for m in record.measurements]})
    return cast(dict[str, Any], _finite(scored.model_dump(mode="json")))


def _with_reason(number: Measurement) -> Measurement:
    """Return ``number`` without what a record cannot hold, and with a reason if that is its value."""
    changes: dict[str, Any] = {
        field: None for field in ("value", "stderr", "ci_low", "ci_high") if not scorable(getattr(number, field))
    }
    if "value" in changes and not number.not_scored:
        changes["not_scored"] = "no value" if number.value is None else f"the value is {number.value}"
    return number.model_copy(update=changes)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
