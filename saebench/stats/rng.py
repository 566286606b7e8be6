"""Named random generators derived from one seed; never a global one."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, name: str) -> np.random.Generator:
    """The generator called ``name`` (e.g. ``"bootstrap"``) of ``seed``: independent of every other name."""
    entropy = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(np.random.SeedSequence([seed, entropy]))
