"""Wall time and processor time. This uses the standard library only, because the peer's environment imports it too."""

from __future__ import annotations

import time
from typing import NamedTuple


class Time(NamedTuple):
    """Seconds on the clock, and processor seconds of all threads of this process."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> Time:
        """Return the present time, from which differences can be taken."""
        return cls(time.monotonic(), time.process_time())

    def __add__(self, other: Time) -> Time:  # type: ignore[override]
        return Time(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Time) -> Time:
        return Time(self.wall - other.wall, self.cpu - other.cpu)


def phases(whole: Time, load: Time, lm: Time) -> dict[str, float]:
    """Return ``NAME_seconds`` and ``NAME_cpu_seconds`` of the phases load, lm and probes; the last is the rest."""
    named = {"load": load, "lm": lm, "probes": whole - load - lm}
    seconds = {f"{name}_seconds": spent.wall for name, spent in named.items()}
    return seconds | {f"{name}_cpu_seconds": spent.cpu for name, spent in named.items()}
