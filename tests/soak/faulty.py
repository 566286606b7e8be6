"""Work with known faults, with which the tests of the harnesses make sure that each fault is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.hostile.case import Case
from tests.hostile.judge import Verdict, judge
from tests.soak.child import Work
from tests.soak.contents import Contents, contents
from tests.soak.kills import plan, reference, trial
from tests.soak.scenes import Scene
from tests.soak.tally import Tally
from tests.soak.world import World


class Careful(Scene):
    """Writes three files, each of them whole or not at all, and clears up what a killed writer left."""

    name = "careful"

    def prepare(self, folder: Path) -> None:
        (folder / "results").mkdir(parents=True)

    def work(self, folder: Path) -> Work:
        def work() -> int:
            try:
                return self.write_all(folder / "results")
            except KeyboardInterrupt:
                return 130

        return work

    def contents(self, folder: Path) -> Contents:
        return contents(folder / "results", root=folder)

    def write_all(self, folder: Path) -> int:
        for old in folder.glob(".tmp-*"):
            old.unlink()
        for number in range(3):
            if not (folder / f"{number}.txt").exists():
                self.write(folder / f"{number}.txt", f"{number} ".encode() * 100)
        return 0

    def write(self, path: Path, data: bytes) -> None:
        with open(path.with_name(".tmp-1"), "wb") as file:
            file.write(data)
        os.replace(path.with_name(".tmp-1"), path)


class Tearing(Careful):
    """Writes files in place."""

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)


class Littering(Careful):
    """Leaves its temporary files behind."""

    def write_all(self, folder: Path) -> int:
        for number in range(3):
            if not (folder / f"{number}.txt").exists():
                self.write(folder / f"{number}.txt", f"{number} ".encode() * 100)
        return 0

    def write(self, path: Path, data: bytes) -> None:
        name = path.with_name(f".tmp-{os.getpid()}-{path.stem}")
        with open(name, "wb") as file:
            file.write(data)
        os.replace(name, path)


class Losing(Careful):
    """Begins anew, and thereby loses what was there."""

    def write_all(self, folder: Path) -> int:
        for old in folder.iterdir():
            old.unlink()
        return super().write_all(folder)


class Changing(Careful):
    """Writes something else if it goes on with what is there."""

    def write_all(self, folder: Path) -> int:
        begun = any(folder.iterdir())
        for number in range(3):
            if not (folder / f"{number}.txt").exists():
                self.write(folder / f"{number}.txt", (b"again" if begun else b"first") * 100)
        return 0


class Complaining(Careful):
    """Prints a traceback when it goes on with what is there."""

    def write_all(self, folder: Path) -> int:
        if any(folder.iterdir()):
            raise ValueError("there is something")
        return super().write_all(folder)


class Outliving(Careful):
    """Starts a process that outlives it."""

    def write_all(self, folder: Path) -> int:
        if not any(folder.iterdir()):
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return super().write_all(folder)


def strike(base: Path, world: World, kind: type[Careful], n: int) -> Tally:
    """Strike one of these scenes at most ``n`` times."""
    scene = kind(world)
    undisturbed = reference(scene, base / kind.__name__ / "reference")
    tally = Tally()
    for number, blows in enumerate(plan(undisturbed, n, Random(0), timed=False)):
        tally.add(trial(scene, undisturbed, blows, base / kind.__name__ / str(number)))
    return tally


def _prints(text: str, code: int = 0) -> Callable[[Path], Any]:
    def work(folder: Path) -> int:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
        return code

    return work


def _raises(folder: Path) -> int:
    raise ValueError("a bug")


def _outside(folder: Path) -> int:
    (folder.parent.parent / "outside").write_text("x")
    return 0


def _subprocess(folder: Path) -> int:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    return 0


def _memory(folder: Path) -> int:
    bytearray(2**36)
    return 0


MISDEEDS: dict[str, tuple[Callable[[Path], Any], str, str]] = {  # what is done, the kind of fault, and what is said
    "an undocumented exit code": (_prints("x", 70), "undocumented", "ends with 70"),
    "a traceback": (_raises, "undocumented", "traceback"),
    "silence": (_prints("", 2), "undocumented", "says nothing"),
    "the wrong sentence": (_prints("something else", 2), "undocumented", "says none of"),
    "an escape sequence": (_prints("the field \x1b[31m", 2), "undocumented", "U+001B"),
    "bytes that are not UTF-8": (_prints("the field \udcff", 2), "undocumented", "not UTF-8"),
    "a crash": (lambda folder: os.kill(os.getpid(), 11), "undocumented", "ends with -11"),
    "a way around every handler": (lambda folder: os._exit(3), "undocumented", "ends with 3"),
    "a hang": (lambda folder: time.sleep(600), "undocumented", "has not ended after 2 s"),
    "a file outside": (_outside, "undocumented", "outside"),
    "a process that stays": (_subprocess, "undocumented", "outlives"),
    "too much memory": (_memory, "undocumented", "MemoryError"),
    "code of the input": (lambda folder: (folder / "EXECUTED").touch(), "executed", "code of the input ran"),
    "nothing wrong": (_prints("the field x is wrong", 2), "", ""),
}


def misdeed(base: Path, world: World, name: str) -> Verdict:
    """Return what the judge says about a command that does wrong."""
    case = Case(name, "records", lambda folder, surroundings: [], says=("the field",), seconds=2)
    folder = base / "misdeed"
    return judge(case, world.surroundings, folder, run=lambda *arguments: lambda: MISDEEDS[name][0](folder / "case"))
