"""The moments at which a process changes files, so that it can be stopped at any one of them.

A step is a file that is created, truncated, moved, removed, written or synced, or a folder that is made or removed.
`Steps.install` counts them in the process that calls it. Writes are counted where the operating system sees them, so a
process can also be stopped when half of a write is on the disk.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_AUDITED = {
    "os.rename": "move",
    "os.remove": "remove",
    "os.mkdir": "make folder",
    "os.rmdir": "remove folder",
    "os.link": "link",
    "os.symlink": "link",
    "os.truncate": "truncate",
}


@dataclass(frozen=True)
class Blow:
    """How a process is stopped.

    Attributes:
        number: The signal.
        step: The number of the step at which it strikes, or None if it strikes after ``seconds``.
        torn: Whether half of the step, if it is a write, is done before.
        seconds: How long after the start it strikes.
    """

    number: int = signal.SIGKILL
    step: int | None = None
    torn: bool = False
    seconds: float = 0.0


class Steps:
    """Counts the steps of this process below a folder."""

    def __init__(self, folder: Path, blow: Blow | None = None, log: Path | None = None) -> None:
        """Prepare the count.

        Args:
            folder: Only what happens below this folder counts.
            blow: The process stops itself as this says, if it names a step.
            log: A file that receives a line for each step, which says what happens to which file.
        """
        self._folder = os.path.realpath(folder)
        self._blow = blow if blow is not None and blow.step is not None else None
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log is not None else None
        self._count = 0
        self._write = os.write

    def install(self) -> None:
        """Begin to count. This cannot be undone, so it belongs into a process that ends soon."""
        fsync, write = os.fsync, os.write

        def synced(descriptor: Any) -> None:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            self.step("sync", _path_of(number))
            fsync(descriptor)

        def written(descriptor: int, data: Any) -> int:
            half = memoryview(data)[: len(data) // 2]
            self.step("write", _path_of(descriptor), lambda: write(descriptor, half))
            return write(descriptor, data)

        os.fsync, os.write = synced, written
        builtins.open = io.open = self._opener(io.open)
        shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]  # copies go through `open` and `write`
        sys.addaudithook(self._audit)

    def step(self, what: str, path: Any, tear: Callable[[], Any] | None = None) -> None:
        """Count a step, and strike if it is the one.

        Args:
            what: The kind of step.
            path: The file or folder.
            tear: Does half of the step.
        """
        real = os.path.realpath(os.fsdecode(path)) if path is not None and not isinstance(path, int) else ""
        if not real.startswith(self._folder + os.sep):
            return
        if self._log is not None:
            self._write(self._log, f"{what}\t{os.path.relpath(real, self._folder)}\n".encode())
        number, self._count = self._count, self._count + 1
        if self._blow is not None and number == self._blow.step:
            if tear is not None and self._blow.torn:
                tear()
            if self._blow.number == signal.SIGINT:
                raise KeyboardInterrupt
            os.kill(os.getpid(), self._blow.number)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_CREAT | os.O_TRUNC) and not isinstance(path, int):
                self.step("open", path)
        elif event in _AUDITED:
            self.step(
                _AUDITED[event], arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
            )

    def _opener(self, real: Callable[..., Any]) -> Callable[..., Any]:
        steps = self

        class Counted(io.FileIO):
            def write(self, data: Any) -> int:
                half = memoryview(data).cast("B")[: memoryview(data).nbytes // 2]
                steps.step("write", self.name, lambda: io.FileIO.write(self, half))
                return super().write(data)

        def opened(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+"):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = Counted(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            if buffering == 0:
                return raw
            buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

        return opened


def _path_of(descriptor: int) -> str:
    """Return the path behind a descriptor, or "" where the system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
