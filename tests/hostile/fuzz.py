"""A seeded fuzzer of references, YAML documents and command lines: only documented errors may leave the program.

Each function draws ``n`` examples from ``seed``, gives them to the real code in this process, and returns what it did
wrong. Nothing is written outside a temporary folder, nothing is fetched, and no model is loaded.
"""

from __future__ import annotations

import collections
import os
import random
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from saebench.errors import SaebenchError
from tests.hostile import fuzz_commands, fuzz_documents, fuzz_references
from tests.hostile.folder import working_folder, write_records

SECONDS = 20  # of the processor, which no example may take; most take a millisecond
WAITING = 300  # seconds in all, for an example that waits for something; other work on the machine counts, too
# Where files cost little, unless the caller says where temporary files go.
_IN_MEMORY = "/dev/shm" if "TMPDIR" not in os.environ and os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Failure:
    """An example with which the program did something undocumented.

    Attributes:
        name: What was called, such as "parse_sae_ref" or "saebench run".
        input: The example, as ``repr`` shows it.
        traceback: What went wrong.
    """

    name: str
    input: str
    traceback: str

    @property
    def kind(self) -> str:
        """The name, the type and text of the error, and the line that raised it, to group failures."""
        lines = [line.strip() for line in self.traceback.strip().splitlines()]
        places = [line for line in lines if line.startswith('File "')]
        return f"{self.name}: {lines[-1][:120] if lines else ''} {places[-1][:160] if places else ''}"


@dataclass
class Outcome:
    """What a fuzzer saw.

    Attributes:
        examples: How many examples it tried.
        refused: How many of them the program refused in a documented way.
        failures: The others that it did not survive.
    """

    examples: int = 0
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)

    def kinds(self) -> collections.Counter[str]:
        """How many failures there are of each kind."""
        return collections.Counter(failure.kind for failure in self.failures)

    def report(self) -> str:
        """Return the kinds of failures, each with its first example."""
        first: dict[str, Failure] = {}
        for failure in self.failures:
            first.setdefault(failure.kind, failure)
        return "\n\n".join(
            f"{count} x {kind}\n  {first[kind].input[:500]}\n{first[kind].traceback[-2000:]}"
            for kind, count in self.kinds().most_common()
        )


def references(seed: int, n: int) -> Outcome:
    """Parse ``n`` references to SAEs, groups, models, texts and the like, and ask what a plan asks about them."""
    return _fuzz(f"references {seed}", n, fuzz_references.example)


def documents(seed: int, n: int) -> Outcome:
    """Read ``n`` run configs, task cards and boards from YAML files, and use them as commands do."""
    with fuzz_documents.cards_trusted():
        return _fuzz(f"documents {seed}", n, fuzz_documents.example)


def command_lines(seed: int, n: int) -> Outcome:
    """Run ``n`` command lines, made from the commands and options that there are. Long work is replaced by a refusal.

    A failure is any exit code but 0, 1 and 2, and any traceback.
    """
    with fuzz_commands.doors_shut(), fuzz_documents.cards_trusted():
        return _fuzz(f"command lines {seed}", n, fuzz_commands.example, with_records=True)


Example = tuple[str, object, Callable[[], object]]  # the name, the input, and the call


def _fuzz(seed: str, n: int, example: Callable[[random.Random], Example], with_records: bool = False) -> Outcome:
    outcome = Outcome()
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY) as folder, working_folder(Path(folder)):
        if with_records:
            write_records(Path("saebench-results"))
        for number in range(n):
            try_one(*example(random.Random(f"{seed} {number}")), outcome)
    return outcome


def try_one(name: str, shown: object, call: Callable[[], object], outcome: Outcome) -> None:
    """Call and count what happened."""
    outcome.examples += 1
    try:
        with _limited():
            call()
    except SaebenchError as error:
        outcome.refused += 1
        if problem := unfit(str(error), shown):
            outcome.failures.append(Failure(name, ascii(shown), f"{problem}: {ascii(str(error))[:1000]}"))
    except (Exception, SystemExit):
        outcome.failures.append(Failure(name, ascii(shown), traceback.format_exc()))


def unfit(message: str, given: object) -> str:
    """Return what is wrong with an error message about what was given; empty if it can be shown as it is."""
    if not message.strip():
        return "The message is empty"
    if len(message) > 5000 + 4 * len(ascii(given)):  # it may repeat what was given, but not expand it
        return f"The message has {len(message)} characters"
    return ""


class Hangs(Exception):
    """An example took too long."""


@contextmanager
def _limited() -> Iterator[None]:
    """Raise `Hangs` in the block when an example takes too long."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"no end in {SECONDS if number == signal.SIGPROF else WAITING} s")

    before = {number: signal.signal(number, end) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
