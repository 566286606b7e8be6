"""Where something lies on the Hugging Face hub: ``ORG/REPO[@REVISION][/PATH]``. Parsing imports no library."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_PLACE = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._-]*))?(?:/(.+))?", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A folder or file in a repository.

    Attributes:
        repository: ``ORG/REPO``.
        revision: A branch, a tag or a commit; None for the main branch. A branch whose name holds a slash cannot be
            written in a reference; its commit can.
        path: The path inside the repository; empty for all of it.
    """

    repository: str
    revision: str | None = None
    path: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repository}{revision}" + (f"/{self.path}" if self.path else "")


def parse_place(text: str) -> Place | None:
    """Return the place that a text names, or None if it names none."""
    if not (match := _PLACE.fullmatch(text.rstrip("/"))):
        return None
    repository, revision, path = match.groups()
    if any(part in ("", ".", "..") for part in (path or "x").split("/")) or "\0" in text or "\\" in text:
        return None
    return Place(repository, revision, path or "")
