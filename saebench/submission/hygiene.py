"""Private data that a published record must not hold: secrets, e-mail addresses, and paths of somebody's machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# A path may begin at the start of a text, or after a character that cannot be part of a name or URL.
_START = r"(?:^|(?<=[\s\"'=:,;(\[{<>|&?]))"
_PATH = "a path of one machine"
_SECRET = "an access token or password"

# Every pattern takes time in proportion to the text, even if the text was written to make it slow.
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
_SHOWN = 12  # so many characters are quoted: enough to find the place, too few to use a secret


def findings(text: str) -> Iterator[str]:
    """Yield what private data ``text`` holds: one phrase per kind, which quotes the beginning of the first place."""
    seen = set()
    for kind, pattern in _PATTERNS:
        if kind not in seen and (match := pattern.search(text)):
            seen.add(kind)
            shown = match[0][:_SHOWN] + ("…" if len(match[0]) > _SHOWN else "")
            yield f"holds {kind} ({shown!r})"


def strings(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in a JSON value with its place, such as ``identity.sae``; the keys of objects are texts, too."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield place, str(key)
            yield from strings(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from strings(item, f"{place}[{number}]")
