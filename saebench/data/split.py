"""The division of documents into those for calibration, to which controls are fitted, and those for evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from saebench.data.documents import Documents
from saebench.errors import DataError

CALIBRATION_SHARE = 0.2  # of the documents
CALIBRATION_SEQUENCES = 128
CALIBRATION_CONTEXT = 128  # the tokens of a sequence for calibration


@dataclass(frozen=True)
class Split:
    """Two disjoint sets of documents of one text."""

    calibration: Documents
    evaluation: Documents
    content_hash: str  # of all documents


def split_documents(documents: Documents, rng: np.random.Generator, share: float = CALIBRATION_SHARE) -> Split:
    """Set a random share of the documents apart for calibration. Each side gets at least one document.

    Raises:
        DataError: There are fewer than two documents.
    """
    n = len(documents.texts)
    if n < 2:
        raise DataError(
            f"The text {documents.ref!r} has {'one' if n else 'no'} document, but at least two are needed, one to "
            "calibrate controls and one to evaluate. Divide it into more documents: a line of JSON for each, or an "
            "empty line between them in plain text."
        )
    apart = np.zeros(n, dtype=bool)
    apart[rng.permutation(n)[: min(max(1, round(share * n)), n - 1)]] = True
    calibration, evaluation = (list(compress(documents.texts, chosen)) for chosen in (apart, ~apart))
    return Split(replace(documents, texts=calibration), replace(documents, texts=evaluation), documents.content_hash)
