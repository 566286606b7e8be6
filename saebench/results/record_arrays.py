"""The arrays of a record: whether they are those that it was written with, and fit what its measurements name."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from saebench.results.array_file import DamagedRecordError, read_arrays
from saebench.results.command import remedy
from saebench.results.record import Arrays, Record, Status
from saebench.results.rules import LARGEST
from saebench.safe_text import short

_NUMBERS = "biuf"  # the kinds of dtypes that contributions may have
_LARGEST_SUM = LARGEST**2


def checksum(arrays: Arrays) -> str:
    """Return the SHA-256 of the names, types, shapes and values of ``arrays``, whatever their order or packing."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{len(name.encode())}:{name}:{array.dtype.str}:{array.shape}:".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


NO_ARRAYS = checksum({})


def arrays_of(record: Record, json_path: Path) -> Arrays:
    """Return the arrays of ``record``, whose JSON is in ``json_path``; none for a record that is not ok.

    Raises DamagedRecordError, which says how to make the record again, if they are missing or unreadable, belong to
    another record, or lack contributions that the record names.
    """
    if record.status is not Status.OK or record.arrays_sha256 == NO_ARRAYS:
        return {}
    path = json_path.with_suffix(".npz")
    try:
        arrays = read_arrays(path)
    except FileNotFoundError as error:
        if record.arrays_sha256 or any(number.contributions for number in record.measurements):
            raise DamagedRecordError(path, "the file is missing", remedy(record, json_path)) from error
        return {}
    except DamagedRecordError as error:
        raise DamagedRecordError(path, error.reason, remedy(record, json_path)) from error
    if problem := array_problem(record, arrays):
        raise DamagedRecordError(path, problem, remedy(record, json_path))
    return arrays


def array_problem(record: Record, arrays: Arrays) -> str:
    """Say why ``arrays`` cannot be those of ``record``; empty when they can."""
    if record.arrays_sha256 not in (None, checksum(arrays)):
        return "they are not those that the record was written with: the checksums differ"
    problem = contribution_problem(record, arrays)
    return f"the record names {problem}" if problem else ""


def contributions(key: str, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return ``KEY.num`` and ``KEY.den``, ``[units]`` each; None unless both are lists of numbers of one length."""
    num, den = arrays.get(f"{key}.num"), arrays.get(f"{key}.den")
    if num is None or den is None or num.ndim != 1 or num.shape != den.shape:
        return None
    return (num, den) if num.dtype.kind in _NUMBERS and den.dtype.kind in _NUMBERS else None


def contribution_problem(record: Record, arrays: Arrays) -> str:
    """Say which contributions ``record`` names without fitting ``arrays``; empty if all are there and give numbers."""
    named = {number.contributions: number for number in record.measurements if number.contributions}
    for number in record.measurements:
        if number.contributions and number.value is not None:  # others may share its contributions
            named[number.contributions] = number
    for key, number in named.items():
        pair = contributions(key, arrays)
        if pair is None:
            name = short(key)
            return f"contributions '{name}', but no lists of numbers '{name}.num' and '{name}.den' of one length"
        if number.value is not None and not _gives_a_number(*pair):
            return f"contributions '{short(key)}', which give no finite number"
    return ""


def _gives_a_number(num: np.ndarray, den: np.ndarray) -> bool:
    """Return whether the sums of both have a finite ratio, and can be summed in any order and number."""
    with np.errstate(all="ignore"):
        size, total = (float(np.abs(part.astype(np.float64)).sum()) for part in (num, den))
        divisor = abs(float(den.astype(np.float64).sum()))
    share = size / divisor if divisor else math.inf
    return size <= _LARGEST_SUM and total <= _LARGEST_SUM and share <= LARGEST
