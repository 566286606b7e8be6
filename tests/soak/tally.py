"""What a harness counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Tally:
    """Counts of one kind of trial. All but ``number`` and ``seconds`` must stay 0.

    Attributes:
        number: The trials: kills, processes, inputs.
        lost: Things that were there, or should be, and are not.
        torn: Files that hold a part of their content.
        changed: Numbers or other content that differ from those of an undisturbed run.
        leftovers: Files and processes that stay behind.
        executed: Inputs whose code ran.
        undocumented: Exit codes, tracebacks, hangs, and anything else that no page promises.
        seconds: How long the trials took, added up over processes.
        faults: A sentence for each fault.
        kinds: How often each kind of trial occurred.
    """

    number: int = 0
    lost: int = 0
    torn: int = 0
    changed: int = 0
    leftovers: int = 0
    executed: int = 0
    undocumented: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def fault(self, kind: str, sentence: str, n: int = 1) -> None:
        """Count a fault, such as ``fault("torn", "results/x.json is half written")``."""
        setattr(self, kind, getattr(self, kind) + n)
        self.faults.append(f"{kind}: {sentence}")

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        for part in fields(Tally):
            mine = getattr(self, part.name)
            if isinstance(mine, Counter):
                mine.update(getattr(other, part.name))
            else:
                setattr(self, part.name, mine + getattr(other, part.name))

    @property
    def bad(self) -> int:
        """How many faults there are."""
        return self.lost + self.torn + self.changed + self.leftovers + self.executed + self.undocumented

    def as_json(self) -> dict[str, Any]:
        return {part.name: getattr(self, part.name) for part in fields(Tally)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Tally:
        return cls(**{**values, "kinds": Counter(values["kinds"])})
