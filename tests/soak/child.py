"""Work in a process of its own that starts in milliseconds, because its parent has imported everything already.

The real command line needs seconds to import its libraries. A worker of the soak (`tests.soak.pool`) imports them once,
and each child is forked from it. So a child may hang, crash, use up its memory or be killed at any moment without harm
to the worker, and hundreds of children are affordable.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

TAG = "SAEBENCH_SOAK_CHILD"  # an environment variable that a child passes on to every process that it starts
GIB = 2**30
_POLL_SECONDS = 0.003

Work = Callable[[], int | None]


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        code: The exit code, or minus the number of the signal that ended it.
        stdout: What it wrote to standard output.
        stderr: What it wrote to standard error.
        seconds: How long it ran.
        late: Whether it was ended because it ran for too long.
        outlived: The command lines of processes that it had started and that outlived it; they were ended.
    """

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    late: bool
    outlived: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Everything that it wrote; bytes that are not UTF-8 are escaped."""
        return (self.stdout + self.stderr).decode("utf-8", errors="backslashreplace")


class Child:
    """A process forked from this one."""

    def __init__(
        self,
        work: Work,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        memory: int | None = None,
    ) -> None:
        """Start the process.

        Args:
            work: What the process does; it returns the exit code.
            folder: Its working folder.
            environment: Variables to add to its environment.
            stdin: What it can read from standard input.
            memory: How many bytes of address space it may take beyond what it is born with; no limit by default.
        """
        self._tag = uuid.uuid4().hex
        self._streams = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115 (closed by `wait`)
        self._streams[0].write(stdin)
        self._streams[0].seek(0)
        sys.stdout.flush()
        sys.stderr.flush()
        self._started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _live(work, folder, {**(environment or {}), TAG: self._tag}, self._streams, memory)

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float, patience: float = 5.0) -> Outcome:
        """Return how the process ended, and end it if that takes too long.

        Args:
            seconds: How long it may run.
            patience: How long the processes that it started may take to end after it.
        """
        late = not self.ended_within(seconds - (time.monotonic() - self._started))
        if late:
            self.send(signal.SIGKILL)
            self.ended_within(60)
        took = time.monotonic() - self._started
        outlived = _end_descendants(self._tag, patience)
        stdout, stderr = (_content(stream) for stream in self._streams[1:])
        for stream in self._streams:
            stream.close()
        return Outcome(os.waitstatus_to_exitcode(self._status), stdout, stderr, took, late, outlived)

    def ended_within(self, seconds: float) -> bool:
        """Return whether the process has ended, waiting for it as long as ``seconds``."""
        deadline = time.monotonic() + seconds
        while not hasattr(self, "_status"):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(_POLL_SECONDS)
        return True


def command(*arguments: object) -> Work:
    """Return the work of ``saebench`` with these arguments, as typed in a shell."""

    def work() -> int:
        from saebench.cli.main import main

        sys.argv = ["saebench", *map(str, arguments)]
        main()
        return 0

    return work


def _live(work: Work, folder: Path, environment: Mapping[str, str], streams: Sequence[IO[bytes]], memory: int | None):
    """Do the work as a fresh program would, and never return."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.setsid()  # away from the terminal, from which a program could read an answer
        os.chdir(folder)
        os.environ.update(environment)
        tempfile.tempdir = None  # so that TMPDIR counts, and not what this process has used so far
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream.fileno(), number)
        # A terminal with UTF-8: standard output refuses half a surrogate pair, standard error escapes it.
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory is not None:
            limit = psutil.Process().memory_info().vms + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_FSIZE, (2 * GIB, 2 * GIB))
        # Ctrl-C counts while the program runs, not while this function or Python itself starts and ends.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = _exit_code(work)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        code = 1
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(work: Work) -> int:
    """Return the exit code that Python would end with."""
    try:
        return work() or 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1


def _content(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()


def _end_descendants(tag: str, patience: float) -> tuple[str, ...]:
    """Wait for the processes that bear a tag, end those that stay, and return their command lines."""
    deadline = time.monotonic() + patience
    while alive := _tagged(tag):
        if time.monotonic() >= deadline:
            lines = tuple(" ".join(_command_line(process)) for process in alive)
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            return lines
        time.sleep(0.05)
    return ()


def _tagged(tag: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(TAG) == tag and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return ["?"]
