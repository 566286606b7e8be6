"""Documents apart for calibration (fitting controls) and for evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from saebench.data.documents import Documents
from saebench.errors import DataError

CALIBRATION_SHARE = 0.2
CALIBRATION_SEQUENCES = 128  # of CALIBRATION_CONTEXT tokens each
CALIBRATION_CONTEXT = 128


@dataclass(frozen=True)
class Split:
    """Two disjoint sets of documents of one text, and the hash of the whole."""

    calibration: Documents
    evaluation: Documents
    content_hash: str


def split_documents(documents: Documents, rng: np.random.Generator, share: float = CALIBRATION_SHARE) -> Split:
    """Set ``share`` of the documents apart, at random; each side gets one at least.

    Raises DataError for fewer than two documents.
    """
    n = len(documents.texts)
    if n < 2:
        raise DataError(
            f"Text {documents.ref!r} has {'one' if n else 'no'} document; at least two are needed, one to calibrate "
            "controls and one to evaluate. Split it into more documents (one JSON line each)."
        )
    apart = np.zeros(n, dtype=bool)
    apart[rng.permutation(n)[: min(max(1, round(share * n)), n - 1)]] = True
    calibration, evaluation = (list(compress(documents.texts, chosen)) for chosen in (apart, ~apart))
    return Split(replace(documents, texts=calibration), replace(documents, texts=evaluation), documents.content_hash)
