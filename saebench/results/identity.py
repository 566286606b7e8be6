"""Record ids: a hash of everything that decides a record's numbers, and of nothing else.

The id is part of file names and of published tables, so its definition is pinned by a golden test:
sha256 over the identity as canonical JSON, first 16 hex digits.
"""

from __future__ import annotations

import hashlib
import json

from saebench.errors import UsageError
from saebench.results.record import Identity

ID_LENGTH = 16


def canonical_json(identity: Identity) -> str:
    """``identity`` as ASCII JSON with sorted keys, no blanks, floats by ``repr``.

    Raises UsageError for values that JSON cannot hold (NaN, infinities, arbitrary objects).
    """
    try:
        return json.dumps(identity.model_dump(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The parameters of task {identity.task!r} cannot be written as JSON ({error}); "
            "use finite numbers, text, booleans and lists only."
        ) from error


def record_id(identity: Identity) -> str:
    """16 hex digits; equal for equal identities, on every platform. Raises UsageError like `canonical_json`."""
    return hashlib.sha256(canonical_json(identity).encode("ascii")).hexdigest()[:ID_LENGTH]
