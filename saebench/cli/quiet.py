"""What other libraries say on the terminal: nothing, unless SAEBENCH_DEBUG=1 asks for it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def debugging() -> bool:
    """Whether the user wants tracebacks and the libraries' own messages."""
    return os.environ.get("SAEBENCH_DEBUG", "") not in ("", "0")


def set_environment() -> None:
    """Settings that libraries read when they are imported; what the user has set stays."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its warning about forks
    if not debugging():
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings of saebench as one line each, those of other libraries not at all."""
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
    """Call before a language model or an SAE is loaded. Download bars of the hub stay: they are our progress too."""
    if debugging():
        return
    import logging

    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # "Loading weights"; it takes the hub's bars with it
    if not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        enable_progress_bars()
    for library in ("transformer_lens", "sae_lens"):
        logging.getLogger(library).setLevel(logging.ERROR)
