"""What must not stand in a published record: secrets, addresses of people, places on somebody's machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# Where a path may begin: at the start of a text, or after something that is no part of a name or URL.
_START = r"(?:^|(?<=[\s\"'=:,;(\[{<>|&?]))"
_PATH = "a path of one machine"
_SECRET = "an access token or password"

# Each takes time in proportion to the text, also where the text was made to keep it busy.
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (_SECRET, re.compile(r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}")),
    (_SECRET, re.compile(r"(?<![A-Za-z0-9])(?:gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,})")),
    (_SECRET, re.compile(r"(?<![A-Za-z0-9])sk-(?=[\w-]{0,99}\d)[\w-]{16,}")),
    (_SECRET, re.compile(r"(?<![A-Za-z0-9])(?:AKIA[A-Z0-9]{16}|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}|pypi-[\w-]{32,})")),
    (_SECRET, re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")),
    (_SECRET, re.compile(r"://[^\s/:@]+:[^\s/@]+@")),
    (
        "an e-mail address",
        re.compile(r"(?<![\w.+-])[\w.+-]++@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}(?![\w-])"),
    ),
    (_PATH, re.compile(r"file://", re.IGNORECASE)),
    (_PATH, re.compile(_START + r"/(?:home|Users|root|tmp|var|mnt|media|data|opt|srv|scratch|workspace)(?![\w.-])")),
    (_PATH, re.compile(_START + r"/[^\s/\"']+/[^\s/\"']+")),
    (_PATH, re.compile(_START + r"~[\w.-]*[/\\]")),
    (_PATH, re.compile(r"(?<![A-Za-z0-9])[A-Za-z]:(?:\\|/(?!/))[^\s]")),
    (_PATH, re.compile(_START + r"\\\\[^\s\\]+\\")),
    (_PATH, re.compile(r"\$\{?HOME\b|%USERPROFILE%", re.IGNORECASE)),
)
_SHOWN = 12  # characters of what was found: enough to find it, too few to use it


def findings(text: str) -> Iterator[str]:
    """What ``text`` gives away, in words; once per kind, the beginning of the first place quoted."""
    seen = set()
    for kind, pattern in _PATTERNS:
        if kind not in seen and (found := pattern.search(text)):
            seen.add(kind)
            shown = found[0][:_SHOWN] + ("…" if len(found[0]) > _SHOWN else "")
            yield f"holds {kind} ({shown!r})"


def strings(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with its place, such as ``identity.sae``; an object's keys are its texts too."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield place, str(key)
            yield from strings(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from strings(item, f"{place}[{number}]")
