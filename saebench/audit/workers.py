"""The audits of several tasks at a time, in processes of their own: the small models of an audit use one core each."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from saebench.audit import audit as auditing
from saebench.audit.audit import Outcome
from saebench.audit.calls import Size, size_named
from saebench.audit.planted import written
from saebench.cards.audits import audit_of
from saebench.errors import SaebenchError
from saebench.progress import ConsoleProgress, NullProgress, Progress

_MEMORY = 5 * 10**9  # bytes that an audit takes at most: a language model, what it computes, and planted SAEs


@dataclass(frozen=True)
class Asked:
    """What is asked of every task: the name of a size, the first seed, and the folder of the results."""

    size: str
    seed: int
    out: Path


Result = Outcome | str  # or why there is none


def most_workers(tasks: int) -> int:
    """Return how many audits run at a time by default: one for each core that memory allows, and one on a GPU."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return 1
    return max(1, min(tasks, _cores(), psutil.virtual_memory().available // _MEMORY))


def audit_tasks(names: Sequence[str], asked: Asked, workers: int, progress: Progress) -> Iterator[tuple[str, Result]]:
    """Audit tasks, and give each with its outcome, or with the reason why there is none.

    Audits are written to the folder of results as soon as they are made. The order is that of ``names`` with one
    worker; with several, those that took longest in the audits that are installed begin first.

    Args:
        names: The tasks.
        asked: The same for all of them.
        workers: How many run at a time.
        progress: Where to report. Several workers report in lines on stderr, unless it is a `NullProgress`.

    Raises:
        KeyboardInterrupt: The user stopped it. What was measured is kept.
    """
    workers = min(workers, len(names))
    if workers < 2:
        for name in names:
            yield name, _audited(name, asked, progress)
        return
    size: Size = size_named(asked.size)
    progress.log(f"{workers} audits at a time")
    written(asked.out, size.recipe, asked.seed)  # before the workers, each of which would make it
    threads = max(1, _cores() // workers)
    spawned = get_context("spawn")  # threads of torch do not survive a fork
    with ProcessPoolExecutor(workers, spawned, _begin, (threads,)) as pool:
        order = sorted(names, key=lambda name: -_seconds(name))
        futures = {name: pool.submit(_in_worker, name, asked, isinstance(progress, NullProgress)) for name in order}
        try:
            for name in names:
                try:
                    yield name, futures[name].result()
                except BrokenProcessPool:
                    yield name, "its process was killed, perhaps for want of memory; try --workers 1."
        except KeyboardInterrupt:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _audited(name: str, asked: Asked, progress: Progress) -> Result:
    try:
        outcome = auditing.audit_task(name, size_named(asked.size), asked.size, asked.seed, asked.out, progress)
    except SaebenchError as error:
        return str(error)
    auditing.write(outcome.audit, asked.out)
    return outcome


def _begin(threads: int) -> None:
    """Set up a worker. An interrupt reaches it from the terminal, too, and means nothing while it waits."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)


def _in_worker(name: str, asked: Asked, silent: bool) -> Result:
    from threadpoolctl import threadpool_limits
    from torch import get_num_threads

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with threadpool_limits(get_num_threads()):
            return _audited(name, asked, NullProgress() if silent else ConsoleProgress(_Lines(name)))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Lines(io.StringIO):
    """Lines on stderr that begin with the name of a task. It is no terminal: bars would overwrite each other."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self._task = task

    def write(self, text: str) -> int:
        written = super().write(text)
        *lines, rest = self.getvalue().split("\n")
        if lines:
            sys.stderr.write("".join(f"{self._task}: {line}\n" for line in lines))
            sys.stderr.flush()
            self.seek(0)
            self.truncate()
            super().write(rest)
        return written


def _seconds(task: str) -> float:
    """Return how long the installed audit of a task took; a task without one may take longest."""
    known = audit_of(task)
    return float("inf") if known is None else float(known.provenance.get("wall_seconds", 0.0))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
