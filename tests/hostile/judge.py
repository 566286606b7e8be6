"""The judge of hostile inputs: it gives each to the real command line, in a process of its own, and says what is wrong.

A command may end with a documented exit code and a sentence, and nothing else: no traceback, no code of the input that
runs, no control character on the terminal, no hang, no file outside the folders that it was given.
"""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tests.hostile
from tests.hostile.case import EXECUTED, Case, Surroundings
from tests.soak.child import GIB, Child, Outcome, Work, command

FAMILIES = ("records", "saes", "formats", "models", "texts", "assets", "references", "settings", "arguments")
MEMORY = 6 * GIB  # what a command may take beside the libraries; no input of a test needs as much
YES = b"y\n" * 50  # whoever asks is told to go on, because a user may do so, too
_WRITE_SECONDS = 120
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE)
_NEW = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR
_CHANGES = {
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
}


@dataclass(frozen=True)
class Verdict:
    """What happened to one hostile input.

    Attributes:
        case: Its family and name.
        code: The exit code, or minus the number of a signal.
        seconds: How long the command took.
        faults: What is wrong: the kind of fault as `tests.soak.tally.Tally` counts it, and a sentence.
    """

    case: str
    code: int
    seconds: float
    faults: tuple[tuple[str, str], ...]


@cache
def corpora() -> dict[str, Case]:
    """Return every case by its family and name, such as ``records/huge integer``, in the order of families.

    Raises ValueError if two cases of a family have the same name, or a case is in the module of another family.
    """
    found: dict[str, Case] = {}
    present = {module.name for module in pkgutil.iter_modules(tests.hostile.__path__)}
    for family in (name for name in FAMILIES if name in present):
        imported = importlib.import_module(f"tests.hostile.{family}")
        for case in imported.cases():
            name = f"{case.family}/{case.name}"
            if name in found or case.family != family:
                raise ValueError(f"the hostile input {name} of {imported.__name__} has no name or family of its own")
            found[name] = case
    return dict(sorted(found.items()))


def judge(case: Case, surroundings: Surroundings, folder: Path, run: Callable[..., Work] = command) -> Verdict:
    """Give a hostile input to the command line and return what is wrong with what it does.

    Args:
        case: The input.
        surroundings: The good inputs.
        folder: A folder that does not exist yet; it is removed in the end.
        run: Makes the work of the arguments; tests of the judge pass another one.
    """
    places = {name: folder / name for name in ("case", "home", "tmp")}
    for place in places.values():
        place.mkdir(parents=True)
    try:
        arguments = _write(case, surroundings, places["case"], folder)
    except RuntimeError as error:
        shutil.rmtree(folder, ignore_errors=True)
        return Verdict(f"{case.family}/{case.name}", 0, 0.0, (("undocumented", str(error)),))
    log = folder / "outside"

    def work() -> int | None:
        _watch([*places.values()], log)
        return run(*arguments)()

    environment = {"SAEBENCH_HOME": str(places["home"]), "HOME": str(places["home"]), "TMPDIR": str(places["tmp"])}
    child = Child(work, places["case"], environment=environment, stdin=YES, memory=MEMORY)
    outcome = child.wait(case.seconds)
    faults = [*_faults(case, outcome), *(("undocumented", f"it changes {line}") for line in _lines(log))]
    if any(EXECUTED in names for _, *parts in os.walk(folder) for names in parts):
        faults.append(("executed", "code of the input ran"))
    shutil.rmtree(folder, ignore_errors=True)
    return Verdict(f"{case.family}/{case.name}", outcome.code, outcome.seconds, tuple(faults))


def _write(case: Case, surroundings: Surroundings, place: Path, folder: Path) -> Sequence[str]:
    """Let a case write its input, in a process of its own, and return the arguments that read it."""
    path = folder / "arguments"

    def work() -> int:
        path.write_bytes(pickle.dumps([str(argument) for argument in case.write(place, surroundings)]))
        return 0

    outcome = Child(work, place).wait(_WRITE_SECONDS)
    if outcome.code != 0:
        raise RuntimeError(f"the case cannot write its input: {outcome.text[-1500:]}")
    arguments: Sequence[str] = pickle.loads(path.read_bytes())
    return arguments


def _faults(case: Case, outcome: Outcome) -> list[tuple[str, str]]:
    text, faults = outcome.text, []
    if outcome.late:
        faults.append(f"it has not ended after {case.seconds:.0f} s")
    elif outcome.code not in case.codes:
        faults.append(f"it ends with {outcome.code} instead of {' or '.join(map(str, sorted(case.codes)))}")
    if _TRACEBACK.search(text):
        faults.append("it prints a traceback")
    elif outcome.code and not text.strip():
        faults.append("it says nothing")
    elif case.says and not any(part in text for part in case.says):
        faults.append(f"it says none of {list(case.says)}")
    for stream, data in (("output", outcome.stdout), ("errors", outcome.stderr)):
        faults += [f"its {stream} hold {what}" for what in raw_characters(data)]
    faults += [f"a process outlives it: {line}" for line in outcome.outlived]
    return [("undocumented", f"{'; '.join(faults)}; it says: {text[-700:]!a}")] if faults else []


def raw_characters(data: bytes) -> list[str]:
    """Return what in an output could steer a terminal: control characters, and bytes that are not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return [f"bytes that are not UTF-8 ({data[error.start : error.start + 8]!r})"]
    controls = sorted({letter for letter in text if unicodedata.category(letter) == "Cc" and letter not in "\n\t"})
    return [f"control characters ({', '.join(f'U+{ord(letter):04X}' for letter in controls)})"] if controls else []


def _watch(allowed: Sequence[Path], log: Path) -> None:
    """Write a line to ``log`` whenever this process changes anything outside of the folders that it may change."""
    roots = tuple(os.path.realpath(place) + os.sep for place in allowed)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seen: set[str] = set()

    def note(what: str, path: Any) -> None:
        if isinstance(path, int) or path is None:
            return
        real = os.path.realpath(os.fsdecode(path))
        if not f"{real}{os.sep}".startswith((*roots, "/dev/", "/proc/")) and real not in seen:
            seen.add(real)
            os.write(descriptor, f"{real!a} ({what})\n".encode())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        try:
            if event == "open":
                if arguments[2] & _NEW:
                    note("open", arguments[0])
            else:
                for index in _CHANGES.get(event, ()):
                    note(event, arguments[index])
        except (ValueError, OSError, TypeError):  # a name that no file can have changes nothing
            return

    sys.addaudithook(hook)


def _lines(log: Path) -> list[str]:
    return log.read_text("utf-8").splitlines() if log.exists() else []
