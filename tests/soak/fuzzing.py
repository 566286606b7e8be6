"""Fuzzed references, documents and command lines, tried in a process of their own."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.hostile.case import EXECUTED
from tests.soak.child import GIB, Child
from tests.soak.tally import Tally

_SECONDS = 900  # for two thousand examples, most of which take a millisecond
_MEMORY = 6 * GIB


def fuzz(base: Path, kind: str, seed: int, n: int) -> Tally:
    """Return what ``n`` examples of `tests.hostile.fuzz` did.

    Args:
        base: The folder of the soak.
        kind: The name of the fuzzer: ``references``, ``documents`` or ``command_lines``.
        seed: What the examples are drawn from.
        n: The number of examples.
    """
    folder = base / f"fuzz-{kind}-{seed}"
    folder.mkdir()
    path = folder / "outcome"

    def work() -> int:
        from tests.hostile import fuzz as fuzzers

        sys.addaudithook(lambda event, arguments: _note(event, arguments, folder / EXECUTED))
        outcome = getattr(fuzzers, kind)(seed, n)
        failures = [(failure.kind, failure.input[:2000], failure.traceback[-2000:]) for failure in outcome.failures]
        path.write_bytes(pickle.dumps((outcome.examples, outcome.refused, failures)))
        return 0

    where = f"{kind} of seed {seed}"
    outcome = Child(work, folder, environment={"TMPDIR": str(folder)}, memory=_MEMORY).wait(_SECONDS)
    tally = Tally(number=n)
    if outcome.late or outcome.code != 0 or not path.exists():
        end = "no end" if outcome.late else f"the end {outcome.code}"
        tally.fault("undocumented", f"{where}: {end}: {outcome.text[-1500:]}")
    else:
        tally.number, tally.kinds["refused"], failures = pickle.loads(path.read_bytes())
        for name, example, traceback in failures:
            tally.fault("undocumented", f"{where}: {name}: {example}\n{traceback}")
    if (folder / EXECUTED).exists():
        tally.fault("executed", f"{where}: code of an example ran")
    shutil.rmtree(folder, ignore_errors=True)
    return tally


def _note(event: str, arguments: tuple[Any, ...], mark: Path) -> None:
    """Leave a mark when code that an example brought along makes a file or folder of the name `EXECUTED`."""
    if event not in ("os.mkdir", "open") or not isinstance(arguments[0], str) or arguments[0] == str(mark):
        return
    if os.path.basename(arguments[0]) == EXECUTED:
        mark.touch()
