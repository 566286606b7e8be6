"""The documents that a text consists of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Documents:
    """Distinct, non-empty documents in the order of their source, and how many were dropped."""

    ref: str
    texts: list[str]
    n_duplicates: int = 0  # dropped documents that repeat another one exactly
    n_empty: int = 0  # dropped documents that are empty or hold only white space
    n_zoo: int = 0  # dropped documents in the zoo's training share, see heldout.py

    @cached_property
    def content_hash(self) -> str:
        """The sha256 of the texts, in order."""
        digest = hashlib.sha256()
        for text in self.texts:
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))  # so that moving text between documents changes the hash
            digest.update(data)
        return digest.hexdigest()
