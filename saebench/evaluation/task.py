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
    units: dict[str, str] = field(default_factory=dict)  # by kind, the hash of the units that the numbers are made from


@dataclass(frozen=True)
class SAEGroup:
    """Two or more SAEs that differ in seed or in size. The runner checks that they share hook and width.

    They are put in the order of their fingerprints, so the order in which the user names them decides no number.

    Attributes:
        name: The name under which the user lists the group, which must not decide a number either.
        saes: The SAEs.
        fingerprints: The fingerprint of each SAE, which seeds its draws. The runner gives those of the record; by
            default they are the SAEs' own.
        listed: The place of each SAE in the user's list.
    """

    name: str
    saes: tuple[SAE, ...]
    fingerprints: tuple[str, ...] = ()
    listed: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Put the SAEs in order."""
        fingerprints = self.fingerprints or tuple(sae.fingerprint() for sae in self.saes)
        order = sorted(range(len(self.saes)), key=lambda place: fingerprints[place])
        object.__setattr__(self, "saes", tuple(self.saes[place] for place in order))
        object.__setattr__(self, "fingerprints", tuple(fingerprints[place] for place in order))
        object.__setattr__(self, "listed", tuple(order))


class Task(Generic[S]):
    """The base class of all tasks: subclass `SAETask`, `GroupTask`, or both, as the card's ``scope`` says.

    The runner makes one instance for all SAEs of one seed and calls, in this order, ``prepare``, ``data``, and then
    ``run`` or ``run_group`` for each SAE or group. An instance keeps no state between calls: what several SAEs share
    is kept by ``context.shared``.

    Attributes:
        name: The task's name, which is that of its card.
        needs: The capabilities that every SAE must have; others are recorded as not applicable.
        several_sites: Whether it measures SAEs with several hook points, such as crosscoders and cross-layer
            transcoders (`saebench.sae.hook.HookSite`); for other tasks they are recorded as not applicable.
        settings: The type of its settings.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Capability]] = frozenset()
    several_sites: ClassVar[bool] = False
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

        It becomes part of the identity of the task's records. A key is a reference exactly as the settings hold it, or
        ``PARAMETER:REFERENCE`` where one reference may mean different content in two parameters: the record id is made
        from the content in place of such a reference, so a copy of a file elsewhere gives the same id. By default there
        is the text of `TextSettings`; a task that reads more adds to what ``super().data(...)`` returns.
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
