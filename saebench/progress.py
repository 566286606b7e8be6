"""How long work reports its progress: as a bar on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO, runtime_checkable

from saebench.safe_text import visible

QUIET_SECONDS = 2.0  # shorter work shows nothing
LINE_SECONDS = 5.0  # the least time between two plain lines of one task


class Ticker(Protocol):
    """Counts the work done on one task, in the task's unit."""

    def advance(self, n: float = 1) -> None:
        """Count ``n`` more units of work as done."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Receives the progress of long work."""

    def task(self, description: str, total: float | None = None, unit: str = "") -> AbstractContextManager[Ticker]:
        """Begin a task, which lasts as long as the context.

        Work that cannot be counted calls ``advance(0)`` now and then to show that it is still going on.

        Args:
            description: What is done.
            total: The amount of work, or None if it is unknown; then no percentage and no remaining time are shown.
            unit: The unit of the work; "B" stands for bytes.
        """
        ...

    def log(self, message: str) -> None:
        """Show a message."""
        ...


class _NullTicker:
    def advance(self, n: float = 1) -> None:
        pass


class NullProgress:
    """Shows nothing."""

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Ticker]:
        yield _NullTicker()

    def log(self, message: str) -> None:
        pass


class ConsoleProgress:
    """Shows tqdm bars on a terminal, and elsewhere at most one plain line per task every five seconds.

    Amounts in the unit ``"B"`` (bytes) are shown in MB. Every message is one line, in which names of SAEs and files
    give no commands to the terminal.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to ``stream`` (default: standard error). ``clock`` returns seconds; tests pass their own."""
        self._stream = stream if stream is not None else sys.stderr
        self._clock = clock

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Ticker]:
        if self._stream.isatty():
            with _bar(self._stream, visible(description), total, unit) as bar:
                yield bar
            return
        lines = _LineTicker(self._stream, self._clock, visible(description), total, unit)
        yield lines
        lines.finish()  # not reached when the work has failed, because then it is not "done"

    def log(self, message: str) -> None:
        message = visible(message)
        if self._stream.isatty():
            from tqdm import tqdm

            tqdm.write(message, file=self._stream)  # unlike print, leaves open bars intact
        else:
            print(message, file=self._stream, flush=True)


@contextmanager
def _bar(stream: TextIO, description: str, total: float | None, unit: str) -> Iterator[Ticker]:
    from tqdm import tqdm

    class Bar:
        def advance(self, n: float = 1) -> None:
            bar.update(n)

    # leave=False, because results should remain on the screen, and finished bars should not.
    with tqdm(
        desc=description,
        total=total,
        unit=unit or "it",
        unit_scale=unit == "B",
        delay=QUIET_SECONDS,
        leave=False,
        dynamic_ncols=True,
        bar_format=None if total or unit else "{desc}: {elapsed}",
        file=stream,
    ) as bar:
        yield Bar()


class _LineTicker:
    def __init__(
        self, stream: TextIO, clock: Callable[[], float], description: str, total: float | None, unit: str
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._description = description
        self._total = total
        self._unit = unit
        self._done = 0.0
        self._start = clock()
        self._last: float | None = None

    def advance(self, n: float = 1) -> None:
        self._done += n
        now = self._clock()
        if now - self._start < QUIET_SECONDS or (self._last is not None and now - self._last < LINE_SECONDS):
            return
        self._last = now
        self._say(self._status(now - self._start))

    def finish(self) -> None:
        elapsed = self._clock() - self._start
        if elapsed >= QUIET_SECONDS:
            amount = f"{_amount(self._done, self._unit)} in " if self._done else ""
            self._say(f"done, {amount}{_duration(elapsed)}")

    def _status(self, elapsed: float) -> str:
        rate = self._done / elapsed
        speed = f"{_amount(rate, self._unit)}/s"
        if not self._done:
            return f"{_duration(elapsed)} so far"
        if not self._total:
            return f"{_amount(self._done, self._unit)}, {speed}, {_duration(elapsed)} so far"
        share = f"{self._done / self._total:.0%}, {speed}"
        if self._done < self._total / 100:  # a rate measured on so little work does not predict the rest
            return share
        return f"{share}, ETA {_duration(max(self._total - self._done, 0) / rate)}"

    def _say(self, text: str) -> None:
        print(f"{self._description}: {text}", file=self._stream, flush=True)


def _amount(n: float, unit: str) -> str:
    if unit == "B":
        return f"{n / 1e6:.1f} MB"
    number = f"{n:,.0f}" if n >= 10 or n == int(n) else f"{n:.2f}"
    return f"{number} {unit}".rstrip()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
