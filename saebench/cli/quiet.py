"""Keeping other libraries quiet on the terminal, unless SAEBENCH_DEBUG=1 asks for their output."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def debugging() -> bool:
    """Return whether the user wants tracebacks and the messages of other libraries."""
    return os.environ.get("SAEBENCH_DEBUG", "") not in ("", "0")


def set_environment() -> None:
    """Set the environment variables that libraries read when they are imported, except those that the user has set."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # it would warn about forks
    if not debugging():
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show each warning of saebench on one line, and no warnings of other libraries."""
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
    print(f"Warning: {message}", file=file or sys.stderr)


def quiet_libraries() -> None:
    """Silence other libraries; call it before a language model or an SAE is loaded.

    The progress bars of downloads from the hub stay, because they show users of saebench what takes time.
    """
    if debugging():
        return
    import logging

    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it hides "Loading weights", and the hub's bars, too
    if not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        enable_progress_bars()
    for library in ("transformer_lens", "sae_lens"):
        logging.getLogger(library).setLevel(logging.ERROR)
