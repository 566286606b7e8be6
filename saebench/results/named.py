"""Finding the records of one SAE in folders of results by any name that a user may give it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from saebench.errors import UsageError, did_you_mean
from saebench.results.array_file import DamagedRecordError
from saebench.results.record import Arrays, Record
from saebench.results.store import ResultStore, read_record

_LEAST_HASH = 8  # so many digits of a record id or fingerprint count as a name


class Results:
    """All records in ``paths`` (folders of any depth, or record files).

    If there are several copies of a record, the newest counts. Raises UsageError for a path that does not exist.
    """

    def __init__(self, paths: Iterable[Path | str]) -> None:
        self._newest: dict[str, tuple[Record, ResultStore]] = {}
        for path in map(Path, paths):
            if not path.exists():
                raise UsageError(f"No results at {path}: there is no such file or folder.")
            store = ResultStore(path if path.is_dir() else path.parent)
            for record in store if path.is_dir() else filter(None, [read_record(path)]):
                known = self._newest.get(record.record_id)
                if known is None or known[0].provenance.created < record.provenance.created:
                    self._newest[record.record_id] = record, store

    @property
    def records(self) -> list[Record]:
        return [record for record, _ in self._newest.values()]

    def arrays(self, record: Record) -> Arrays:
        """Return the arrays of ``record``. Raises DamagedRecordError as `ResultStore.arrays` does."""
        return self._newest[record.record_id][1].arrays(record)

    def arrays_or_damage(self, record: Record) -> Arrays | DamagedRecordError:
        """Return the arrays of ``record``, or the error that says why they cannot be used."""
        try:
            return self.arrays(record)
        except DamagedRecordError as error:
            return error

    def named(self, name: str) -> list[Record]:
        """Return the records of the SAE or group of SAEs that ``name`` means; a record id means one record.

        A name is a reference or what follows its scheme (``topk-k32-s0`` for ``zoo:topk-k32-s0``), the last part of a
        path, the name of a group, or the beginning of a record id or of an SAE's fingerprint (8 digits or more). The
        first of these readings that fits any record counts. Raises UsageError for a name that means no SAE or several.
        """
        records = self.records
        for fits in (_is_exactly, _is_in_short, _hash_begins):
            if fitting := [record for record in records if fits(record, name)]:
                return _one_sae(name, fitting)
        known = {other for record in records for other in (record.identity.sae, record.sae.name, *_short(record))}
        names = f" There are {', '.join(sorted({record.sae.name for record in records}))}."
        raise UsageError(f"There is no result for an SAE called {name!r}.{did_you_mean(name, known) or names}")


def _is_exactly(record: Record, name: str) -> bool:
    return name in (record.identity.sae, record.sae.name)


def _is_in_short(record: Record, name: str) -> bool:
    return name in _short(record)


def _hash_begins(record: Record, name: str) -> bool:
    hashes = (record.record_id, record.identity.sae_fingerprint)
    return len(name) >= _LEAST_HASH and any(digits.startswith(name) for digits in hashes)


def _short(record: Record) -> set[str]:
    body = record.sae.name.partition(":")[2]  # what follows in "zoo:NAME", "sae_lens:FOLDER" or "group:NAME"
    return {body, Path(body.partition("?")[0]).name} - {""}


def _one_sae(name: str, records: Sequence[Record]) -> list[Record]:
    saes = {record.identity.sae for record in records}
    if len(saes) > 1:
        names = {record.sae.name for record in records}
        names = names if len(names) == len(saes) else set(saes)  # groups with one name are named by their members
        raise UsageError(f"{name!r} means several SAEs: {', '.join(sorted(names))}; give one of these names in full.")
    fingerprints = sorted({record.identity.sae_fingerprint for record in records} - {""})
    if len(fingerprints) > 1:
        raise UsageError(
            f"The results hold {len(fingerprints)} SAEs called {name!r}, with different weights or settings; give the "
            f"fingerprint of one instead: {', '.join(digits[:12] for digits in fingerprints)}."
        )
    return list(records)
