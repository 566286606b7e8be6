"""What a task is: a name, the capabilities it needs, its settings, and a method from a context to measurements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from saebench.capabilities import Capability
from saebench.cards.card import TaskCard
from saebench.cards.registry import registry
from saebench.cards.settings import Settings, TextSettings
from saebench.passes.context import TaskContext
from saebench.results.record import Arrays, Measurement
from saebench.sae.protocol import SAE

S = TypeVar("S", bound=Settings)


@dataclass
class TaskOutput:
    """What a task yields for one SAE or group: numbers, the arrays behind them, counts, and what it chose."""

    measurements: list[Measurement]
    arrays: Arrays = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SAEGroup:
    """Two or more SAEs that differ in seed or in size. The runner checks that they share hook and width."""

    name: str
    saes: tuple[SAE, ...]  # in the order in which the user named them


class Task(Generic[S]):
    """The base class of all tasks: subclass `SAETask`, `GroupTask`, or both, as the card's ``scope`` says.

    The runner makes one instance for all SAEs of one seed and calls, in this order, ``prepare``, ``data``, and then
    ``run`` or ``run_group`` for each SAE or group. An instance keeps no state between calls: what several SAEs share
    is kept by ``context.shared``.

    Attributes:
        name: The task's name, which is that of its card.
        needs: The capabilities that every SAE must have; others are recorded as not applicable.
        settings: The type of its settings.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Capability]] = frozenset()
    settings: type[S]

    @property
    def card(self) -> TaskCard:
        """The published definition."""
        return registry().card(self.name)

    def prepare(self, context: TaskContext, settings: S) -> None:
        """Refuse settings and inputs that cannot be used, before any SAE is loaded.

        Raises:
            UsageError: A setting does not fit the language model or the data.
            DataError: A text or dataset is too short, empty or unreadable.
            AssetError: A named asset is missing or damaged.
        """

    def data(self, context: TaskContext, settings: S) -> dict[str, str]:
        """The content hash of every text and dataset that the numbers depend on, by its reference.

        It becomes part of the identity of the task's records. By default it holds the text of `TextSettings`; a task
        that reads more adds to what ``super().data(...)`` returns.
        """
        if isinstance(settings, TextSettings):
            return {settings.text: context.text(settings.text).content_hash}
        return {}


class SAETask(Task[S], ABC):
    """A task that measures one SAE at a time (scope ``sae``, or ``both`` together with `GroupTask`)."""

    @abstractmethod
    def run(self, sae: SAE, context: TaskContext, settings: S) -> TaskOutput:
        """Measure ``sae``. Raises NotApplicableError when it cannot be measured here."""


class GroupTask(Task[S], ABC):
    """A task that compares the SAEs of a group (scope ``group``, or ``both`` together with `SAETask`)."""

    @abstractmethod
    def run_group(self, group: SAEGroup, context: TaskContext, settings: S) -> TaskOutput:
        """Measure ``group``. Raises NotApplicableError when it cannot be measured here."""
