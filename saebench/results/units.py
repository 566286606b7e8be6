"""The content of the units that numbers are made from: sequences, documents, examples, questions, prompts.

A record keeps one hash for each kind of unit, over all units of that kind that the task measured on, in their order.
Contributions of two records may be paired only if these hashes are equal: an equal number of units says nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping

from saebench.safe_text import short

# Units of the SAE or group itself: the fifth latent of one SAE is not the fifth latent of another.
OWN_UNITS = frozenset({"latent", "pair", "run", "sae"})


def units_hash(content: object) -> str:
    """Return the sha256 of ``content`` as JSON with sorted keys.

    Args:
        content: What tells the units from others, in their order: texts, numbers or hashes, and lists or
            mappings of these.

    Raises:
        TypeError: The content holds something that JSON cannot hold.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def other_units(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """Return a sentence for each kind of unit whose content differs, by kind; kinds that only one names do not count.

    Args:
        a: The hashes of one record by kind; empty for records of versions that kept none.
        b: The hashes of another record of the same task, data, settings and seed.
    """
    return [
        f"They were measured on different {short(kind)}s, although data, settings and seed are the same."
        for kind in sorted(a.keys() & b.keys())
        if a[kind] != b[kind]
    ]


def most_common(of_records: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return, for each kind of unit, the hash that most records have; the smallest of those that are equally common."""
    counts: dict[str, Counter[str]] = {}
    for units in of_records:
        for kind, content in units.items():
            counts.setdefault(kind, Counter())[content] += 1
    return {kind: min(count, key=lambda content: (-count[content], content)) for kind, count in counts.items()}
