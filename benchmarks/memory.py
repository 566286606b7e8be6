"""The resident memory of this process, with the standard library only, because the peer's environment imports it."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def resident_bytes() -> int | None:
    """Return the present resident set, or None if the system does not tell it."""
    return _field("VmRSS")


def peak_bytes() -> int | None:
    """Return the largest resident set since the start of the process or the last `reset_peak`."""
    return _field("VmHWM")


def reset_peak() -> bool:
    """Let `peak_bytes` begin again from the present resident set. Return False if the system cannot do this."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
