"""Named random generators that are derived from one seed, used instead of a global generator."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, name: str) -> np.random.Generator:
    """Return the generator called ``name``, such as ``"bootstrap"``, of this seed. Different names are independent."""
    entropy = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(np.random.SeedSequence([seed, entropy]))
