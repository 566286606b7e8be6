"""All records in several folders and files: whoever wrote them, each is checked alone, and a bad one hides no other.

What is left out is named on stderr, in a line for each file. If there are several copies of a record, the newest
counts; if its arrays are damaged, the newest copy whose arrays are not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from saebench.errors import UsageError
from saebench.results.array_file import DamagedRecordError
from saebench.results.record import Arrays, Record
from saebench.results.record_arrays import arrays_of
from saebench.results.record_file import BadRecordError, read_record_file, record_files
from saebench.safe_text import short

_ROUNDING = 1e-3
MOST_NAMED = 20  # files that are left out; the others are counted


@dataclass(frozen=True)
class Copy:
    """A record and the file that it was read from."""

    record: Record
    path: Path


class Collection:
    """The records in ``paths`` (folders of any depth, or record files).

    Raises UsageError for a path that does not exist.
    """

    def __init__(self, paths: Iterable[Path | str]) -> None:
        self._copies: dict[str, list[Copy]] = {}  # the copies of each record, the newest first
        left_out: list[BadRecordError] = []
        for copy in _read(paths, left_out):
            self._copies.setdefault(copy.record.record_id, []).append(copy)
        for copies in self._copies.values():
            copies.sort(key=lambda copy: copy.record.provenance.created, reverse=True)
            left_out += [
                BadRecordError(other.path, f"it differs from its copy {short(copies[0].path)}, which counts")
                for other in copies[1:]
                if not _alike(other.record, copies[0].record)
            ]
        _warn(left_out)

    @property
    def records(self) -> list[Record]:
        """The newest copy of each record, in the order of paths."""
        return [copies[0].record for copies in self._copies.values()]

    def measured(self, record: Record) -> tuple[Record, Arrays]:
        """Return the newest copy of ``record`` whose arrays are not damaged, and its arrays.

        A warning names newer copies that are damaged. Raises DamagedRecordError for the newest copy if all are.
        """
        copies = self._copies[record.record_id]
        damaged: list[DamagedRecordError] = []
        for number, copy in enumerate(copies):
            try:
                arrays = arrays_of(copy.record, copy.path)
            except DamagedRecordError as error:
                damaged.append(error)
                continue
            for damage in damaged:
                warnings.warn(f"{damage} Its copy {short(copy.path)} is used instead.", stacklevel=2)
            copies[:] = [copy, *copies[:number], *copies[number + 1 :]]  # read this one first from now on
            return copy.record, arrays
        raise damaged[0]

    def measured_or_damage(self, record: Record) -> tuple[Record, Arrays | DamagedRecordError]:
        """Return what `measured` does, or ``record`` with the error that says why its arrays cannot be used."""
        try:
            return self.measured(record)
        except DamagedRecordError as error:
            return record, error


def _read(paths: Iterable[Path | str], left_out: list[BadRecordError]) -> Iterator[Copy]:
    """Yield the records in ``paths``, and add to ``left_out`` the files that hold none."""
    seen: set[Path] = set()
    for path in map(Path, paths):
        files, errors = _files(path)
        left_out += errors
        for file in files:
            if (place := file.absolute()) in seen:  # a folder and a part of it were named
                continue
            seen.add(place)
            try:
                yield Copy(read_record_file(file), file)
            except BadRecordError as error:
                left_out.append(error)
            except FileNotFoundError:  # it was replaced or removed since it was listed
                continue


def _files(path: Path) -> tuple[list[Path], list[BadRecordError]]:
    """Return the files of ``path``, which is one or a folder, as `record_files` does."""
    try:
        if path.is_dir():
            return record_files(path)
        if path.exists() or path.is_symlink():
            return [path], []
    except (OSError, ValueError):  # no file can have this name
        pass
    where = short(path)
    missing = f"No results at {where}: there is no such file or folder"
    raise UsageError(f"{missing}; `saebench run --out {where}` writes some.")


def _alike(a: Record, b: Record) -> bool:
    """Return whether two copies hold the same numbers, except for digits that depend on the machine."""
    numbers = [{(m.metric, m.subset): m.value for m in record.measurements} for record in (a, b)]
    if a.status is not b.status or numbers[0].keys() != numbers[1].keys():
        return False
    pairs = ((value, numbers[1][key]) for key, value in numbers[0].items())
    return all(x == y if x is None or y is None else math.isclose(x, y, rel_tol=_ROUNDING) for x, y in pairs)


def _warn(left_out: list[BadRecordError]) -> None:
    """Name the files that are left out, and say what to do about them."""
    for error in left_out[:MOST_NAMED]:
        warnings.warn(str(error), stacklevel=2)
    if len(left_out) > MOST_NAMED:
        warnings.warn(f"Leaving out {len(left_out) - MOST_NAMED:,} more files for such reasons.", stacklevel=2)
    if left_out:
        warnings.warn("If they are your own, `saebench run` with the same options makes them again.", stacklevel=2)
