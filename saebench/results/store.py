"""The folder of records: one JSON file per job at a predictable path, with its arrays (``.npz``) beside it.

The path is ``<root>/<model>/<hook>/<sae>/<task>/<record_id>.json``; folder names are slugs (`saebench.results.slug`).
Any number of processes may write into one folder at once. The arrays are written first and the JSON last, and each file
is moved into place whole, so that a JSON file never lacks its arrays. There are no locks: equal identities mean equal
content, so it does not matter which of two writers of one record comes last.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ValidationError

from saebench.errors import SaebenchError, UsageError
from saebench.results.array_file import DamagedRecordError, contribution_problem, read_arrays, storable, write_arrays
from saebench.results.atomic import remove_abandoned, write_atomic
from saebench.results.identity import ID_LENGTH, record_id
from saebench.results.packing import pack
from saebench.results.record import SCHEMA_VERSION, Arrays, Identity, Measurement, Record, Status
from saebench.results.slug import slug

OverwritePolicy = Literal["missing", "failed", "always"]
_RECORD_FILE = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}\.json")
_MIN_FREE_BYTES = 50_000_000


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

        Numbers that are NaN or infinite are written as null with a ``not_scored`` reason. Failed records of the same
        request that knew less (an SAE that could not be loaded has no fingerprint) are replaced.

        Raises:
            SaebenchError: The id does not fit the identity, contributions that a measurement names are missing, or an
                array holds Python objects or has fields.
        """
        arrays = arrays or {}
        _check(record, arrays)
        path = self.path(record)
        text = _text(_storable(record))
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        if arrays:
            write_atomic(path.with_suffix(".npz"), lambda file: write_arrays(file, pack(arrays)))
        write_atomic(path, lambda file: file.write(text.encode("utf-8")))
        self._remove_superseded(record, path)
        return path

    def __iter__(self) -> Iterator[Record]:
        for path in sorted(self.root.rglob("*.json")):
            if _RECORD_FILE.fullmatch(path.name) and (record := read_record(path)) is not None:
                yield record

    def read(self, record_id: str) -> Record | None:
        """Return the record with this id; None when there is none, or only a damaged one, which a warning names."""
        if not _RECORD_FILE.fullmatch(f"{record_id}.json"):
            return None
        return _first(read_record(path) for path in sorted(self.root.rglob(f"{record_id}.json")))

    def find(self, identity: Identity) -> Record | None:
        """Return the record of ``identity`` as `read` does, looking only into the folders that may hold it."""
        return _first(read_record(path) for path in self._siblings(identity, f"{record_id(identity)}.json"))

    def arrays(self, record: Record) -> Arrays:
        """Return the arrays of ``record``; none for a record that is not ok.

        They are the contributions ``<key>.num`` and ``<key>.den``, ``[units]``, and the arrays that the task added.
        Raises DamagedRecordError, which says how to make the record again, whatever is wrong with them.
        """
        if record.status is not Status.OK:
            return {}
        path = self.path(record).with_suffix(".npz")
        if not path.exists():  # `root` may be a part of a larger store
            path = next(self.root.rglob(path.name), path)
        try:
            arrays = read_arrays(path)
        except FileNotFoundError as error:
            if any(m.contributions for m in record.measurements):
                raise DamagedRecordError(path, "the file is missing") from error
            return {}
        if problem := contribution_problem(record, arrays):
            raise DamagedRecordError(path, f"the record names {problem}")
        return arrays

    def _siblings(self, identity: Identity, pattern: str) -> Iterator[Path]:
        """Yield files of the same model, SAE and task at any hook; a failed record may not know its hook."""
        folder = self.root / slug(identity.model)
        yield from sorted(folder.glob(f"*/{slug(identity.sae)}/{slug(identity.task)}/{pattern}"))

    def _remove_superseded(self, record: Record, path: Path) -> None:
        for other_path in self._siblings(record.identity, "*.json"):
            if other_path == path or not _RECORD_FILE.fullmatch(other_path.name):
                continue
            other = read_record(other_path)
            if other and other.status is Status.FAILED and _knew_less(other.identity, record.identity):
                other_path.unlink(missing_ok=True)
                other_path.with_suffix(".npz").unlink(missing_ok=True)


def read_record(path: Path) -> Record | None:
    """Return the record in ``path``; None, with a warning, when the file is truncated, edited or not a record."""
    try:
        record = Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:  # replaced or removed since it was listed
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        _warn_damaged(path, f"{where}: {first['msg']}" if where else first["msg"])
        return None
    if record.schema_version != SCHEMA_VERSION:
        _warn_damaged(path, f"its schema version is {record.schema_version}, this saebench reads {SCHEMA_VERSION}")
        return None
    if not record.record_id == record_id(record.identity) == path.stem:
        _warn_damaged(path, "its id does not fit its content")
        return None
    return record


def _warn_damaged(path: Path, reason: str) -> None:
    warnings.warn(f"Ignoring the result file {path}: {reason}.", stacklevel=3)


def writable_or_raise(root: Path | str) -> None:
    """Create ``root`` and write into it, to find out before hours of work.

    Raises UsageError when it cannot be written or when its disk is almost full.
    """
    root = Path(root)
    probe = root / f".tmp-{uuid.uuid4().hex}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
        probe.unlink()
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


def _check(record: Record, arrays: Arrays) -> None:
    if record.record_id != (expected := record_id(record.identity)):
        raise SaebenchError(f"Record id {record.record_id!r} does not fit its identity, whose id is {expected!r}.")
    for key, array in arrays.items():
        if not storable(array.dtype):
            raise SaebenchError(
                f"Array {key!r} of task {record.identity.task!r} holds Python objects or has fields; use plain numbers."
            )
    if problem := contribution_problem(record, arrays):
        raise SaebenchError(f"Task {record.identity.task!r} names {problem}.")


def _storable(record: Record) -> dict[str, Any]:
    """Return ``record`` as JSON values without NaN or infinities; a measurement without a value has a reason."""
    scored = record.model_copy(update={"measurements": [_with_reason(m) for m in record.measurements]})
    return cast(dict[str, Any], _finite(scored.model_dump(mode="json")))


def _with_reason(measurement: Measurement) -> Measurement:
    value = measurement.value
    if measurement.not_scored or (value is not None and math.isfinite(value)):
        return measurement
    reason = "no value" if value is None else f"the value is {value}"
    return measurement.model_copy(update={"not_scored": reason})


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
