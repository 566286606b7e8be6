"""Named random generators that are derived from one seed, used instead of a global generator."""

from __future__ import annotations

import hashlib

import numpy as np

# The content of draws that are made from numbers alone, such as how often each of n units counts in a bootstrap sample.
NO_CONTENT = ""


def generator(seed: int, purpose: str, content: str = NO_CONTENT, *numbers: int | float) -> np.random.Generator:
    """Return a random generator of its own for every purpose, content and list of numbers under this seed.

    Args:
        seed: The seed.
        purpose: What is drawn, such as ``"bootstrap"``.
        content: The hash of what it is drawn from, such as that of documents or the fingerprint of an SAE. It is never
            a reference, a path or a place in a list, so that the same input gives the same draws wherever it lies.
        *numbers: What else tells draws apart, such as a size or the number of a repetition.
    """
    name = ":".join([purpose, *filter(None, [content]), *(f"{number:.17g}" for number in numbers)])
    entropy = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(np.random.SeedSequence([seed, entropy]))
