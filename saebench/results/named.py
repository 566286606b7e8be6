"""Finding the records of one SAE in folders of results by any name that a user may give it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from saebench.errors import UsageError, did_you_mean
from saebench.results.collection import Collection
from saebench.results.record import Record
from saebench.safe_text import short

_LEAST_HASH = 8  # so many digits of a record id or fingerprint count as a name
_MOST_NAMED = 20


class Results(Collection):
    """A collection of records whose SAEs have names."""

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
        names = sorted({short(record.sae.name, 100) for record in records})
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        there_are = f" There are {', '.join(names[:_MOST_NAMED])}{more}."
        raise UsageError(f"There is no result for an SAE called {name!r}.{did_you_mean(name, known) or there_are}")


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
