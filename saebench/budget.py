"""How much memory and disk a run may take, beside the weights of the language model and of one SAE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from saebench.errors import UsageError

_UNITS = {unit: 10 ** (3 * power) for power, unit in enumerate(["b", "kb", "mb", "gb", "tb"])}
_UNITS |= {unit: 2 ** (10 * power) for power, unit in enumerate(["b", "kib", "mib", "gib", "tib"])}

MEMORY = 10**9
CACHE = 20 * 10**9


@dataclass(frozen=True)
class Budget:
    """Bytes. ``memory`` is working memory where the model computes; ``cache`` is disk for what runs share.

    The memory is dealt out: a quarter for ``[tokens, d_sae]`` blocks of the encoder, a quarter for shared tensors that
    the disk does not hold, the rest for the passes of the language model and their losses.
    """

    memory: int = MEMORY
    cache: int = CACHE

    @property
    def resident(self) -> int:
        return self.memory // 4

    @property
    def encoder(self) -> int:
        return self.memory // 4

    @property
    def passes(self) -> int:
        return self.memory // 2


def parse_bytes(text: str | int) -> int:
    """Bytes of ``1500000``, ``"1.5GB"``, ``"512 MiB"`` or ``"0"``. Raises UsageError for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{0,18})?)\s*([a-z]*)\s*", str(text).lower())
    unit = match[2] or "b" if match else ""
    if match is None or unit not in _UNITS:
        raise UsageError(f"{text!r} is not an amount of memory; write it like 800MB, 1.5GB or 2GiB.")
    return int(Fraction(match[1]) * _UNITS[unit])  # exact: a float has lost bytes beyond 2**53


def format_bytes(n: float) -> str:
    """``1.5 GB``: three significant digits, decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB" if n < 999.5 else f"{n:.0f} TB"
