"""Keeping other libraries quiet on the terminal, unless SAEBENCH_DEBUG=1 asks for their output."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from saebench.safe_text import visible, visible_lines


def debugging() -> bool:
    """Return whether the user wants tracebacks and the messages of other libraries."""
    return os.environ.get("SAEBENCH_DEBUG", "") not in ("", "0")


def set_environment() -> None:
    """Set the environment variables that libraries read when they are imported, except those that the user has set."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it would warn about forks
    if not debugging():
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def allow_any_text() -> None:
    """Let the terminal escape what it cannot show, such as a name that is not UTF-8, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _SafeFormatter(logging.Formatter):
    """Escapes what a terminal would act on in the names that log messages hold."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(super().format(record))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning of saebench on one line, and no warnings of other libraries."""
    if logging.lastResort is not None:  # it prints what no handler was set up for
        logging.lastResort.setFormatter(_SafeFormatter())
    if debugging() or sys.warnoptions:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"saebench\.")
        warnings.showwarning = _show
        yield


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"Warning: {visible(str(message))}", file=file or sys.stderr)


def quiet_libraries() -> None:
    """Silence other libraries; call it before a language model or an SAE is loaded.

    The progress bars of downloads from the hub stay, because they show users of saebench what takes time.
    """
    if debugging():
        return
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it hides "Loading weights", and the hub's bars, too
    if not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        enable_progress_bars()
    for library in ("transformer_lens", "sae_lens"):
        logging.getLogger(library).setLevel(logging.ERROR)
