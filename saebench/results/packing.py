"""Stacking arrays of equal shape: records hold hundreds of short arrays, and each would cost a header of its own."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np

from saebench.results.record import Arrays

_NAMES = "packed.names"  # JSON {stack: [name of each row]}, as bytes
_STACK = "packed.{}"


def pack(arrays: Arrays) -> Arrays:
    """Return ``arrays`` with those of equal dtype and shape stacked, and their names beside them; `unpack` undoes it.

    Arrays that cannot be stacked, or that use a name reserved for stacks, are returned as they are.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
    for name, array in arrays.items():
        groups[array.dtype.str, array.shape].append(name)
    stacks = {_STACK.format(number): names for number, names in enumerate(g for g in groups.values() if len(g) > 1)}
    if not stacks or any(name in arrays for name in (_NAMES, *stacks)):
        return arrays
    stacked = {name for names in stacks.values() for name in names}
    return {
        _NAMES: np.frombuffer(json.dumps(stacks).encode("utf-8"), dtype=np.uint8),
        **{stack: np.stack([arrays[name] for name in names]) for stack, names in stacks.items()},
        **{name: array for name, array in arrays.items() if name not in stacked},
    }


def unpack(arrays: Arrays) -> Arrays:
    """Return the arrays that `pack` was given; arrays that were never packed come back as they are.

    Raises ValueError when the names do not fit the rows.
    """
    if _NAMES not in arrays:
        return arrays
    stacks = json.loads(arrays[_NAMES].tobytes().decode("utf-8"))
    if not isinstance(stacks, dict):
        raise ValueError("the names of packed arrays are no table")
    unpacked = {name: array for name, array in arrays.items() if name != _NAMES and name not in stacks}
    for stack, names in stacks.items():
        rows = arrays.get(stack)
        if rows is None or rows.ndim == 0 or not isinstance(names, list) or not all(map(_is_text, names)):
            raise ValueError(f"the packed arrays {stack!r} do not fit their names")
        if len(names) != len(rows) or len(set(names)) < len(names) or not unpacked.keys().isdisjoint(names):
            raise ValueError(f"the packed arrays {stack!r} do not fit their names")
        unpacked |= dict(zip(names, rows, strict=True))
    return unpacked


def _is_text(name: object) -> bool:
    return isinstance(name, str)
