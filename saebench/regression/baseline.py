"""Baselines: the numbers that a check compares with, in a small JSON file beside the tests.

A file is a list of records with only the measurements that are checked and the contributions of every unit, which
paired differences need. It is written to be reviewed as a diff: keys are sorted, every array has a line, numbers have
eight significant digits, and an update that measures the same numbers leaves the file as it is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from saebench.atomic import write_atomic
from saebench.errors import SaebenchError, UsageError
from saebench.files import read_regular
from saebench.results.identity import inputs_by_content
from saebench.results.paired import Key, Scored, scores
from saebench.results.record import Arrays, Measurement, Record

_LARGEST = 2**28  # bytes of a file
_DIGITS = 8  # models and SAEs compute in float32, which holds seven


class Contributions(BaseModel):
    """The numerators and denominators of a ratio of sums, one of each per unit."""

    model_config = ConfigDict(extra="forbid")

    num: list[float]
    den: list[float]


class Entry(BaseModel):
    """The part of one record that a baseline keeps."""

    model_config = ConfigDict(extra="forbid")

    record: Record
    contributions: dict[str, Contributions] = {}

    @property
    def keys(self) -> list[Key]:
        return [(self.record.identity.task, m.metric, m.subset) for m in self.record.measurements]

    def scores(self) -> dict[Key, Scored]:
        """Return the numbers of the record.

        Raises SaebenchError when contributions that a measurement names are missing.
        """
        arrays: Arrays = {}
        for key, parts in self.contributions.items():
            arrays |= {f"{key}.num": np.array(parts.num), f"{key}.den": np.array(parts.den)}
        return scores(self.record, arrays)

    def only(self, keys: Collection[Key]) -> Entry:
        """Return this entry with the measurements of ``keys`` alone."""
        task = self.record.identity.task
        kept = [m for m in self.record.measurements if (task, m.metric, m.subset) in keys]
        named = {m.contributions for m in kept}
        return Entry(
            record=self.record.model_copy(update={"measurements": kept}),
            contributions={key: parts for key, parts in self.contributions.items() if key in named},
        )


class Baseline(BaseModel):
    """The content of a file. A metric is in one entry only; entries of one task may come from several updates."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    entries: list[Entry]

    @property
    def keys(self) -> set[Key]:
        return {key for entry in self.entries for key in entry.keys}

    def with_new(self, now: Sequence[Entry]) -> Self:
        """Return this baseline with those metrics of ``now`` that it lacks."""
        entries = {_source(entry): entry for entry in self.entries}
        for entry in now:
            new = entry.only(set(entry.keys) - self.keys)
            if not new.keys:
                continue
            known = entries.get(_source(entry))
            entries[_source(entry)] = new if known is None else _joined(known, new)
        return self.model_copy(update={"entries": list(entries.values())})


def entry(record: Record, arrays: Arrays, keys: Collection[Key], root: Path) -> Entry:
    """Return the entry of ``record`` with the measurements that ``keys`` name, rounded.

    Args:
        record: The record.
        arrays: Its arrays, which hold the contributions.
        keys: The measurements to keep.
        root: Paths below this folder become relative to it, so that two checkouts of one project can be compared.
    """
    task = record.identity.task
    kept = [_rounded(m) for m in record.measurements if (task, m.metric, m.subset) in keys]
    named = {m.contributions for m in kept if m.contributions and m.value is not None}
    kept = [m if m.contributions in named else m.model_copy(update={"contributions": None}) for m in kept]
    # The checksum is that of all arrays, of which the baseline keeps some.
    portable = _portable(record.model_copy(update={"measurements": kept, "arrays_sha256": None}), root)
    return Entry(record=portable, contributions={key: _contributions(key, arrays) for key in named})


def baseline_path(folder: Path, name: str) -> Path:
    """Return the file of the baseline ``name``. Raises UsageError for a name that is not a plain file name."""
    if not re.fullmatch(r"\w[\w.~-]*", name, re.ASCII):
        raise UsageError(f"The name of a baseline may hold letters, digits and any of '._-~'; {name!r} does not fit.")
    return folder / f"{name}.json"


def read_baseline(path: Path) -> Baseline | None:
    """Return the baseline in ``path``; None where there is no file. Raises SaebenchError for a file that is damaged."""
    try:
        return Baseline.model_validate_json(read_regular(path, _LARGEST))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SaebenchError(f"The baseline {path} cannot be read ({error.strerror or error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SaebenchError(
            f"The baseline {path} cannot be used ({f'{where}: ' if where else ''}{first['msg']}); restore it from "
            "version control, or write it again with --saebench-update."
        ) from error


def write_baseline(path: Path, baseline: Baseline) -> bool:
    """Write ``baseline`` unless the file holds the same numbers of the same SAE already. Return whether it was written.

    Raises SaebenchError when the file cannot be written.
    """
    try:
        known = read_baseline(path)
    except SaebenchError:  # damaged: it is replaced
        known = None
    if known is not None and _content(known) == _content(baseline):
        return False
    content = baseline.model_dump(mode="json", exclude_none=True)
    for number in (number for entry in content["entries"] for number in entry["record"]["measurements"]):
        number.setdefault("value", None)  # the one field of which null says something
    content["entries"].sort(key=lambda item: (item["record"]["identity"]["task"], item["record"]["record_id"]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda file: file.write(f"{_dumps(content)}\n".encode()))
    except OSError as error:
        raise SaebenchError(f"The baseline {path} cannot be written ({error.strerror}).") from error
    return True


def _source(entry: Entry) -> tuple[str, str]:
    """Return what entries must have in common to be joined: the record id and the units."""
    return entry.record.record_id, json.dumps(entry.record.units, sort_keys=True)


def _joined(known: Entry, new: Entry) -> Entry:
    measurements = [*known.record.measurements, *new.record.measurements]
    return Entry(
        record=known.record.model_copy(update={"measurements": measurements}),
        contributions=known.contributions | new.contributions,
    )


def _content(baseline: Baseline) -> list[Any]:
    """Return everything that was measured, without when and where, and without the paths of SAE, texts and datasets."""
    content = [
        (
            entry.record.identity.model_dump(exclude={"sae", "parameters", "data"}),
            inputs_by_content(entry.record.identity),
            entry.record.sae.hook,
            entry.record.units,
            {(m.metric, m.subset): m.model_dump() for m in entry.record.measurements},
            {key: parts.model_dump() for key, parts in entry.contributions.items()},
        )
        for entry in baseline.entries
    ]
    return sorted(content, key=lambda item: (item[0]["task"], sorted(item[4])))


def _portable(record: Record, root: Path) -> Record:
    folder = json.dumps(f"{root}{os.sep}", ensure_ascii=False)[1:-1]
    return Record.model_validate_json(record.model_dump_json().replace(folder, ""))


def _rounded(number: Measurement) -> Measurement:
    fields = ("value", "stderr", "ci_low", "ci_high")
    return number.model_copy(update={key: _round(getattr(number, key)) for key in fields})


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _contributions(key: str, arrays: Arrays) -> Contributions:
    num, den = (np.asarray(arrays[f"{key}.{part}"], np.float64) for part in ("num", "den"))
    # What is not finite in a unit that is not scored decides nothing, and JSON cannot hold it.
    num = np.where(np.isfinite(num) | (den != 0), num, 0.0)
    return Contributions(num=_round_all(num), den=_round_all(den))


def _round_all(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _dumps(value: Any, indent: str = "") -> str:
    """Return indented JSON with sorted keys, and with lists of numbers or names on one line."""
    inner = f"{indent}  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_dumps(value[key], inner)}" for key in sorted(value)]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(f"{inner}{_dumps(item, inner)}" for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
