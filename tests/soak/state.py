"""What earlier calls of a soak have done, so that the next call goes on from there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.soak.tally import Tally

_ROOT = Path(__file__).resolve().parents[2]


class State:
    """The counts of the units that are done, one line of JSON for each."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Read what is there, unless it was made by other code or with other settings; then begin anew.

        Args:
            path: The file.
            settings: What the units depend on, beside the code.
        """
        self._path = path
        self.done: dict[str, Tally] = {}
        head = {"code": fingerprint(), "settings": settings}
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        if lines and json.loads(lines[0]) == head:
            for line in lines[1:]:
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:  # the soak was ended while it wrote its last line
                    continue
                self.done[entry["unit"]] = Tally.from_json(entry["tally"])
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(head) + "\n", "utf-8")

    def add(self, unit: str, tally: Tally) -> None:
        """Record that a unit is done."""
        self.done[unit] = tally
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"unit": unit, "tally": tally.as_json()}) + "\n")


def fingerprint() -> str:
    """Return a hash of the code under test, of the task cards, and of the harnesses."""
    digest = hashlib.sha256()
    for folder in ("saebench", "tasks", "tests/soak", "tests/hostile"):
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml", ".html", ".js") and path.is_file():
                digest.update(f"{path.relative_to(_ROOT)} ".encode() + path.read_bytes())
    return digest.hexdigest()
