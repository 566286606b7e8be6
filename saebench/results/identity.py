"""Record ids: a hash of everything that decides a record's numbers, and of nothing else.

The id is the first 16 hex digits of the SHA-256 of the identity as canonical JSON. File names and published tables
hold it, so a golden test pins this definition.
"""

from __future__ import annotations

import hashlib
import json

from saebench.errors import UsageError
from saebench.results.record import Identity

ID_LENGTH = 16


def canonical_json(identity: Identity) -> str:
    """Return ``identity`` as ASCII JSON with sorted keys, without blanks, and with floats as ``repr`` writes them.

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
    """Return the id, 16 hex digits. Equal identities have equal ids on every platform.

    Raises UsageError as `canonical_json` does.
    """
    return hashlib.sha256(canonical_json(identity).encode("ascii")).hexdigest()[:ID_LENGTH]
