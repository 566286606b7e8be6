"""The memory and disk that a run may use, in addition to the weights of the language model and of one SAE."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from fractions import Fraction

from saebench.errors import UsageError, shown

_UNITS = {unit: 10 ** (3 * power) for power, unit in enumerate(["b", "kb", "mb", "gb", "tb"])}
_UNITS |= {unit: 2 ** (10 * power) for power, unit in enumerate(["b", "kib", "mib", "gib", "tib"])}

# What the allocators of torch, CUDA, C++ and the system say.
_EXHAUSTED = re.compile(
    "(can't|cannot|not|un|failed to) ?(able to )?allocate (memory|[0-9.]+ ?[kmgt]?i?b)|(out of|not enough) memory"
    "|alloc_failed|bad_alloc|bad allocation",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"allocate ([0-9][0-9.]*) ?(bytes|[KMGTP]?i?B)\b", re.IGNORECASE)

MEMORY = 10**9
CACHE = 20 * 10**9


@dataclass(frozen=True)
class Budget:
    """The bytes that a run may use.

    A quarter of the memory is for blocks of latents ``[tokens, d_sae]``, a quarter for shared tensors that are not on
    disk, and half for the passes of the language model and their losses.
    """

    memory: int = MEMORY  # working memory of the device that the model runs on
    cache: int = CACHE  # disk for tensors that runs share

    @property
    def resident(self) -> int:
        """Bytes for shared tensors that are not on disk."""
        return self.memory // 4

    @property
    def encoder(self) -> int:
        """Bytes for a block of latents ``[tokens, d_sae]``."""
        return self.memory // 4

    @property
    def passes(self) -> int:
        """Bytes for a pass of the language model and its losses."""
        return self.memory // 2


def parse_bytes(text: str | int) -> int:
    """Return the number of bytes that a text such as ``1500000``, ``"1.5GB"``, ``"512 MiB"`` or ``"0"`` stands for.

    Raises:
        UsageError: The text is not an amount of memory.
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{0,18})?)\s*([a-z]*)\s*", str(text).lower())
    unit = match[2] or "b" if match else ""
    if match is None or unit not in _UNITS:
        raise UsageError(f"{shown(text)} is not an amount of memory; write it like 800MB, 1.5GB or 2GiB.")
    return int(Fraction(match[1]) * _UNITS[unit])  # exact, where a float would lose bytes beyond 2**53


def format_bytes(n: float) -> str:
    """Return ``n`` bytes as a text such as ``1.5 GB``, with three significant digits and a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB" if n < 999.5 else f"{n:.0f} TB"


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory has run out: that of the machine or that of a GPU.

    Allocators of libraries raise RuntimeError for it, and only their text tells.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | OSError) and _EXHAUSTED.search(_text(error)) is not None


def memory_sentence(error: BaseException) -> str:
    """Return what to say when memory has run out: how much was asked for, as far as the error tells, and what helps."""
    asked = _AMOUNT.search(_text(error))
    amount = ""
    if asked is not None:
        more = (
            format_bytes(int(asked[1]))
            if asked[1].isdigit() and asked[2].lower() == "bytes"
            else " ".join(asked.groups())
        )
        amount = f": another {more} could not be allocated"
    return (
        f"Out of memory{amount}. Give a smaller --batch-size or --memory-budget, a smaller preset, or a model and SAE "
        "with fewer weights, or free memory that other programs take."
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)[:10_000]
    except Exception:  # the error of somebody else's code, whose text cannot be made
        return ""
