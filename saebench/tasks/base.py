"""What a task is: a name, the capabilities it needs, and a function from a context to measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from saebench.results.record import Arrays, Measurement
from saebench.sae.protocol import SAE, Capability

if TYPE_CHECKING:
    from saebench.tasks.context import TaskContext


@dataclass
class TaskOutput:
    """What a task yields for one SAE: numbers, the arrays behind them, and counts."""

    measurements: list[Measurement]
    arrays: Arrays = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Task(Protocol):
    """One evaluation. Registered under ``[project.entry-points."saebench.tasks"]``."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[Capability]]

    def run(self, sae: SAE, context: TaskContext, parameters: dict[str, Any]) -> TaskOutput:
        """Measure ``sae``. Raise NotApplicableError when it cannot be measured here."""
        ...
