"""A Python module run as the main program of a process that ends when the process that started it ends.

``python -P guard.py ROOT MODULE ARGUMENTS...`` runs the module, for which ROOT is added to the end of the path of
imports. Standard input must be a pipe whose other end only the starting process holds: it closes when that process
ends, in whatever way, and then this process kills itself and all that it has started. This file imports nothing of
saebench, because it must be able to run before anything else.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def guarded(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module in a process that ends with the process that started it.

    The module is not looked for in the current folder (``-P``), where a stranger's file could have its name.
    """
    root = os.path.dirname(__file__).removesuffix(os.path.join("saebench", "data", "assets"))
    return [sys.executable, "-P", __file__, root, module, *arguments]


def _end_with_parent() -> None:
    """Kill this process as soon as standard input is closed. Standard input is empty for everything else."""
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_wait_and_end, args=(lifeline,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: _end())
    if sys.platform.startswith("linux"):
        _ask_the_kernel()


def _wait_and_end(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    _end()


def _end() -> None:
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():  # this process leads a group of its own
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _ask_the_kernel() -> None:
    """Let the kernel send SIGTERM as well, in case a copy of the starting process holds the other end of the pipe."""
    try:
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    except (ImportError, OSError, AttributeError):  # there is no such function, and the pipe remains
        pass


if __name__ == "__main__":
    _end_with_parent()
    sys.path.append(sys.argv[1])
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
