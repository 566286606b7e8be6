"""Documents: what a text is made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Documents:
    """Distinct, non-empty documents in the order of their source, and what was dropped on the way."""

    ref: str
    texts: list[str]
    n_duplicates: int = 0  # exact repetitions
    n_empty: int = 0  # empty or white space only
    n_zoo: int = 0  # in the training share of the zoo, see heldout.py

    @cached_property
    def content_hash(self) -> str:
        """sha256 over the texts in order."""
        digest = hashlib.sha256()
        for text in self.texts:
            data = text.encode()
            digest.update(len(data).to_bytes(8, "little"))  # so that moving text between documents shows
            digest.update(data)
        return digest.hexdigest()
