"""Records that anybody could put into a folder of results: each beside good ones, for each command that reads records.

`tests.hostile.test_records` gives each of them to every reader. The judge gives each to one command.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.hostile import record_arrays, record_places, record_values
from tests.hostile.case import Case, Surroundings
from tests.hostile.record_folder import ARRAYS, JSON, Hostile

_DONE, _SUBMITTED = frozenset({0}), frozenset({0, 1})
# How each command is told to read a folder.
_COMMANDS: dict[str, Callable[[Path], Sequence[str]]] = {
    "table": lambda root: ["table", str(root)],
    "long table": lambda root: ["table", str(root), "--format", "json"],
    "export": lambda root: ["export", str(root), "--out", str(root.parent / "exported")],
    "submit": lambda root: ["submit", str(root)],
    "board": lambda root: ["leaderboard", "build", "--results", str(root), "--out", str(root.parent / "board")],
}


def hostile() -> list[Hostile]:
    """Return every hostile record."""
    return [*record_values.hostile(), *record_arrays.hostile(), *record_places.hostile()]


def cases() -> list[Case]:
    """Return a case for every hostile record; those with damaged arrays are read by commands that read arrays."""
    readers = {ARRAYS: ("submit", "board")}
    made = []
    for number, one in enumerate(hostile()):
        names = readers.get(one.noticed, tuple(_COMMANDS))
        made.append(_case(one, names[number % len(names)]))
    return made


def _case(one: Hostile, command: str) -> Case:
    def write(folder: Path, surroundings: Surroundings) -> Sequence[str]:
        root = folder / "results"
        shutil.copytree(surroundings.records, root)
        one.put(root)
        return _COMMANDS[command](root)

    codes = _SUBMITTED if command == "submit" else _DONE
    return Case(one.name, "records", write, (one.says,) if one.says and one.noticed == JSON else (), codes)
