"""Putting a hostile record into a folder of good ones."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saebench.errors import SaebenchError
from saebench.results.identity import record_id
from saebench.results.record import Identity

Json = dict[str, Any]
STRANGER = "sae_lens:stranger/topk"
NO_ID = "feedfacefeedface"  # the name of a file whose content has no id
UNITS = 20
NUM, DEN = np.linspace(0.1, 0.9, UNITS), np.ones(UNITS)

# Who notices: every reader, because the JSON is no record; only those that read arrays; nobody, because it is only odd.
JSON, ARRAYS, NOBODY = "json", "arrays", "nobody"


@dataclass(frozen=True)
class Hostile:
    """A hostile record.

    Attributes:
        name: Its name.
        put: Writes it into a folder of good records, and returns its path.
        noticed: Who must notice it.
        says: A text that the message about it must hold.
    """

    name: str
    put: Callable[[Path], Path]
    noticed: str = JSON
    says: str = ""


def content(root: Path) -> Json:
    """Return the JSON of a record that would be good: that of a record below ``root``, but of another SAE."""
    template = json.loads(next(path for path in sorted(root.rglob("*.json")) if '"ok"' in path.read_text()).read_text())
    template["identity"] |= {"sae": STRANGER, "sae_fingerprint": "5" * 64}
    template["sae"] |= {"name": STRANGER, "architecture": "topk", "control": False, "d_sae": 64}
    number = {"metric": "fvu", "value": 0.5, "stderr": 0.05, "ci_low": 0.4, "ci_high": 0.6, "n": UNITS}
    number |= {"unit": "sequence", "interval": "bca-bootstrap", "contributions": "fvu"}
    template |= {"status": "ok", "error": "", "measurements": [number], "counts": {}, "notes": {}}
    template.pop("arrays_sha256", None)
    template.pop("units", None)
    return template


def with_id(record: Json) -> Json:
    """Return ``record`` with the id of its identity, or with an id that fits nothing if the identity has none."""
    try:
        return record | {"record_id": record_id(Identity.model_construct(**record["identity"]))}
    except (SaebenchError, TypeError, ValueError, AttributeError, KeyError):
        return record | {"record_id": NO_ID}


def write(root: Path, text: str | bytes, name: str = NO_ID, arrays: bytes | None = None) -> Path:
    """Write a file named like a record, with good arrays unless others are given."""
    path = root / "model" / "hook" / "stranger" / "core" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    path.with_suffix(".npz").write_bytes(good_arrays() if arrays is None else arrays)
    return path


def put_record(root: Path, record: Json, arrays: bytes | None = None) -> Path:
    """Write ``record`` under its own id."""
    return write(root, json.dumps(record), record["record_id"], arrays)


def changed(change: Callable[[Json], object], arrays: bytes | None = None) -> Callable[[Path], Path]:
    """Return what writes a record after ``change``, with an id that fits its identity."""

    def put(root: Path) -> Path:
        record = content(root)
        change(record)
        return put_record(root, with_id(record), arrays)

    return put


def replaced(old: str, new: str) -> Callable[[Path], Path]:
    """Return what writes a record in whose JSON text ``old`` became ``new``, which no JSON writer would write."""

    def put(root: Path) -> Path:
        record = with_id(content(root))
        text = json.dumps(record)
        assert old in text
        return write(root, text.replace(old, new, 1), record["record_id"])

    return put


def good_arrays() -> bytes:
    """Return the arrays that fit `content`."""
    return packed({"fvu.num": NUM, "fvu.den": DEN})


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Return ``arrays`` as numpy writes them."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
