"""The tasks of this installation: the built-in ones and those of plug-ins.

A plug-in is a package with an entry point in the group ``saebench.tasks``. The name of the entry point is the task's
name, and its value is ``module:Class``. The class is a `saebench.evaluation.SAETask`, a `saebench.evaluation.GroupTask`
or both, as the scope of its card says. Its attribute ``card_path`` is the file of its card, absolute or relative to the
module of the class.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from saebench.cards.agreement import disagreements
from saebench.cards.card import MetricSpec, Scope, TaskCard, cards_dir, load_card
from saebench.cards.settings import Settings
from saebench.errors import SaebenchError, UsageError, did_you_mean

GROUP = "saebench.tasks"
_METHODS: dict[Scope, tuple[str, ...]] = {"sae": ("run",), "group": ("run_group",), "both": ("run", "run_group")}
# In the order in which tables show them. `saebench.tasks.factory` knows their classes.
BUILT_IN = (
    "core",
    "concept_separability",
    "concept_suppression",
    "dark_matter",
    "detox",
    "ground_truth",
    "joint_splice",
    "language_steering",
    "seed_stability",
    "sparse_probing",
    "unlearning",
)


@dataclass(frozen=True)
class Entry:
    """One registered task. A broken plug-in has no card, and ``error`` says why it cannot be used."""

    name: str
    origin: str  # "saebench", or the distribution of the plug-in
    card: TaskCard | None
    error: str = ""
    implementation: type | None = None  # the class of a plug-in; None for a built-in task
    folder: Path | None = None  # the folder of a plug-in's card; None for a built-in task


class TaskRegistry:
    """The registered tasks by name. Looking up an unknown or broken task raises UsageError."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._all = list(entries)
        self._entries: dict[str, Entry] = {}
        for entry in self._all:
            if entry.card is not None or entry.name not in self._entries:  # a broken entry hides no usable one
                self._entries[entry.name] = entry

    def entries(self) -> list[Entry]:
        """Return all entries, including broken ones."""
        return list(self._all)

    def names(self) -> list[str]:
        """Return the names of the tasks that can be used."""
        return [entry.name for entry in self._entries.values() if entry.card is not None]

    def card(self, name: str) -> TaskCard:
        """Return the card of the task ``name``."""
        return self._usable(name)[1]

    def plug_in(self, name: str) -> type | None:
        """Return the class of a plug-in's task; None for a built-in task."""
        return self._usable(name)[0].implementation

    def folder(self, name: str) -> Path | None:
        """Return the folder of a plug-in's card; None for a built-in task."""
        return self._usable(name)[0].folder

    def metric(self, task: str, version: int, metric: str) -> MetricSpec | None:
        """Return what the card says about a metric of a record.

        None for a task or version that is not installed here, and for a metric that the card does not declare.
        """
        entry = self._entries.get(task)
        if entry is None or entry.card is None or entry.card.version != version:
            return None
        return next((spec for spec in entry.card.metrics if spec.id == metric), None)

    def table_columns(self) -> dict[str, list[str]]:
        """Return the metrics that the wide table shows, by task."""
        return {entry.name: entry.card.table_columns for entry in self._entries.values() if entry.card is not None}

    def _usable(self, name: str) -> tuple[Entry, TaskCard]:
        entry = self._entries.get(name)
        if entry is None:
            raise UsageError(f"There is no task {name!r}.{did_you_mean(name, self.names())}")
        if entry.card is None:
            raise UsageError(f"Task {name!r} of {entry.origin} is broken: {entry.error}")
        return entry, entry.card


@functools.cache
def registry() -> TaskRegistry:
    """Return the tasks of this installation, which are looked up once per process.

    Raises UsageError for a built-in card that is wrong. A plug-in that is wrong becomes a broken entry.
    """
    folder = cards_dir()
    entries = [Entry(name, "saebench", load_card(folder / f"{name}.yaml")) for name in BUILT_IN]
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        entries.append(_plug_in(point, taken={entry.name: entry.origin for entry in entries if entry.card}))
    return TaskRegistry(entries)


def mismatch(implementation: Any, card: TaskCard) -> str:
    """Say how a class contradicts its card or lacks what the card's scope requires; empty when it does neither."""
    members = ("name", "needs", "settings", *_METHODS[card.scope])
    missing = [member for member in members if not hasattr(implementation, member)]
    if missing:
        return f"the class has no {missing[0]!r}"
    if implementation.name != card.name:
        return f"the class is called {implementation.name!r}, but the card {card.name!r}"
    if set(implementation.needs) != set(card.needs):
        needs, published = (sorted(map(str, names)) for names in (implementation.needs, card.needs))
        return f"the class needs {needs}, but the card says {published}"
    if not (isinstance(implementation.settings, type) and issubclass(implementation.settings, Settings)):
        return "its settings are not a subclass of saebench.evaluation.Settings"
    return "; ".join(disagreements(implementation.settings, card))


def _plug_in(point: EntryPoint, taken: Mapping[str, str]) -> Entry:
    origin = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
    try:
        if point.name in taken:
            raise SaebenchError(f"the name {point.name!r} is taken by {taken[point.name]}")
        implementation = point.load()
        module_file = sys.modules[implementation.__module__].__file__
        card_path = Path(str(module_file)).parent / implementation.card_path
        card = load_card(card_path)
        if card.name != point.name:
            raise SaebenchError(f"its card is for a task called {card.name!r}")
        if problem := mismatch(implementation, card):
            raise SaebenchError(problem)
    except Exception as error:  # a plug-in may raise anything on import, and the other tasks must stay usable
        return Entry(point.name, origin, None, f"{type(error).__name__}: {error}")
    return Entry(point.name, origin, card, implementation=implementation, folder=card_path.parent)
