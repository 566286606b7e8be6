"""Damaged and hostile records, made from good ones: at random places of their files, of their values and arrays."""

from __future__ import annotations

import copy
import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.draw import mutated, value
from tests.results.damage import DAMAGES

# Values of the right type that are hostile all the same.
_NUMBERS = (
    *(2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400, 0, -1),
    *(1e308, -1e308, 1.7e308, 5e-324, -0.0, 1e16, float("nan"), float("inf"), float("-inf")),
)
_TEXTS = (
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-01-01T00:00:00", "9999-12-31T23:59:59-14:00"),
    *("=1+1", "+1", "-1", "@x", "\x1b]0;x\x07", "\x1b[31m", "\ud800", "\udcff", "\0", "\u202e", "|", "`", "\n\n# x"),
    *("../../../x", "/etc/passwd", "~nouser", "a" * 300, "a" * 100_000, "", " ", "<script>x</script>"),
    *("core", "group:x", "not_scored"),
)
_TYPES = ("<f4", "<f2", "<i8", "<u1", "<c16", ">f8", "?", "<U8", "S3", "<M8[s]")
_ARRAYS = (
    lambda draw, array: array * draw.choice([np.nan, np.inf, -1.0, 0.0, 1e308, 5e-324]),
    lambda draw, array: array[: draw.randrange(len(array) + 1)],
    lambda draw, array: np.concatenate([array, array]),
    lambda draw, array: array.astype(draw.choice(_TYPES)),
    lambda draw, array: array.reshape(-1, 1),
)


def write_mutants(draw: random.Random, good: Path, folder: Path, n: int) -> list[Path]:
    """Write ``n`` mutants of the records in ``good`` into a store and return the paths of their JSON files.

    Args:
        draw: The generator.
        good: A store of good records.
        folder: The store to write into.
        n: The number of mutants.
    """
    records = sorted(good.rglob("*.json"))
    paths = [_write(draw, draw.choice(records), good, folder, 1000 + index) for index in range(n)]
    return list(dict.fromkeys(paths))


def _write(draw: random.Random, source: Path, good: Path, folder: Path, seed: int) -> Path:
    """Write one mutant under an id of its own."""
    content = json.loads(source.read_bytes())
    content["identity"]["seed"] = seed  # no two mutants are the same record
    arrays = source.with_suffix(".npz").read_bytes()
    kind = draw.random()
    if kind < 0.45:
        for _ in range(draw.choice((1, 1, 2, 4))):
            content = _spoilt(draw, content)
    name = _give_id(content, f"{seed:016x}")
    if any(path.stem == name for path in good.rglob("*.json")):  # it would take the place of a good record
        content["record_id"] = name = f"{seed:016x}"
    path = folder / source.parent.relative_to(good) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = _dump(content)
    if 0.45 <= kind < 0.65:
        text = mutated(draw, data.decode()).encode("utf-8", "surrogatepass")
        data = text if draw.random() < 0.5 else _bytes(draw, data)
    path.write_bytes(data)
    place = path.with_suffix(".npz")
    place.write_bytes(_bytes(draw, arrays) if 0.65 <= kind < 0.8 else arrays)
    if 0.8 <= kind < 0.9:
        draw.choice(list(DAMAGES.values()))(place)
    elif kind >= 0.9:
        _rewrite(draw, content, place, folder)
    return path


def _spoilt(draw: random.Random, tree: Any) -> Any:
    """Return a copy of a JSON value with one place changed: a leaf, or a list or object on the way to it."""
    tree = copy.deepcopy(tree)
    path = draw.choice(list(_paths(tree)))
    if draw.random() < 0.2:
        path = path[: draw.randrange(1, len(path) + 1)]
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    if draw.random() < 0.15:
        del parent[path[-1]]
    else:
        parent[path[-1]] = _hostile(draw, parent[path[-1]])
    return tree


def _hostile(draw: random.Random, good: Any) -> Any:
    """Return a hostile value, more often than not of the type of the good one."""
    if isinstance(good, int | float) and draw.random() < 0.7:
        return draw.choice(_NUMBERS)
    if isinstance(good, str) and draw.random() < 0.7:
        return draw.choice(_TEXTS)
    return value(draw)


def _paths(tree: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each leaf. Of a long list only the first and last items count."""
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    if not items:
        yield before
    for key, child in items if len(items) < 20 or isinstance(tree, dict) else (items[0], items[-1]):
        yield from _paths(child, (*before, key))


def _give_id(content: Any, name: str) -> str:
    """Let the id fit the identity, so that the record gets past that check; return it, or ``name`` if there is none."""
    from saebench.results.identity import record_id
    from saebench.results.record import Identity

    try:
        content["record_id"] = name = record_id(Identity.model_validate(content["identity"]))
    except Exception:  # the identity is unusable
        if isinstance(content, dict) and "record_id" in content:
            content["record_id"] = name
    return name


def _dump(content: Any) -> bytes:
    try:
        return json.dumps(content).encode()
    except ValueError:  # an integer with too many digits
        return b"{}"


def _bytes(draw: random.Random, data: bytes) -> bytes:
    """Return the bytes with bits flipped, or a part removed, repeated or replaced."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 3, 20))):
        kind, place = draw.randrange(5), draw.randrange(max(1, len(changed)))
        if kind < 2 and changed:
            changed[place] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del changed[place : place + draw.choice((1, 2, 100))]
        elif kind == 3:
            changed[place:place] = changed[place : place + draw.choice((1, 8, 300))]
        else:
            changed[place : place + 8] = draw.choice((b"\0" * 8, b"\xff" * 8, draw.randbytes(8)))
    return bytes(changed[: draw.randrange(len(changed) + 1)]) if draw.random() < 0.1 else bytes(changed)


def _rewrite(draw: random.Random, content: Any, place: Path, folder: Path) -> None:
    """Let the program itself write the record with other arrays, so that its checksum is right."""
    from saebench.results.array_file import read_arrays
    from saebench.results.record import Record
    from saebench.results.store import ResultStore

    arrays = read_arrays(place)
    name = draw.choice(sorted(arrays))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays[name] = draw.choice(_ARRAYS)(draw, arrays[name])
        ResultStore(folder).write(Record.model_validate(content), arrays)
    except Exception:  # the store refuses what no task can give it
        return
