"""Record ids: a hash of everything that decides a record's numbers, and of nothing else.

The id is the first 16 hex digits of the SHA-256 of the identity as canonical JSON, in which content hashes stand for
the references of texts and datasets: a copy of a file elsewhere gives the same id. File names and published tables hold
the id, so a golden test pins this definition.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from saebench.errors import UsageError
from saebench.results.record import Identity

ID_LENGTH = 16


def canonical_json(identity: Identity) -> str:
    """Return ``identity`` as ASCII JSON with sorted keys, without blanks, and with floats as ``repr`` writes them.

    `inputs_by_content` says what stands there for the parameters and the data.

    Raises UsageError for values that JSON cannot hold (NaN, infinities, arbitrary objects).
    """
    parameters, data = inputs_by_content(identity)
    content = identity.model_dump() | {"parameters": parameters, "data": data}
    try:
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
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


def inputs_by_content(identity: Identity) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters and the data of ``identity`` without the names under which files were given.

    A parameter, or an item of a list, that is a key of the data becomes ``content:`` and the hash. A key of the form
    ``PARAMETER:REFERENCE`` counts for that parameter only, and before others. The name of a dataset without a scheme
    means one of an asset.

    Returns:
        The parameters, and the distinct content hashes of all data in ascending order.
    """
    data = identity.data
    of_assets = {key.partition("/")[2]: content for key, content in data.items() if key.startswith("asset:")}

    def content(parameter: str, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [content(parameter, item) for item in value]
        if not isinstance(value, str):
            return value
        known: Mapping[str, str]
        for key, known in ((f"{parameter}:{value}", data), (value, data), (value, of_assets)):
            if key in known:
                return f"content:{known[key]}"
        return value

    parameters = {name: content(name, value) for name, value in identity.parameters.items()}
    return parameters, sorted(set(data.values()))
