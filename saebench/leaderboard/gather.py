"""Choosing the records that a board counts: one per SAE and task of a stratum, all measured in the same way.

Versions of a task are never mixed: the version of the installed card counts. Nor are runs mixed that differ in anything
else that decides numbers (parameters, seed, language model, precision, data): if there are several such settings, the
one with the most SAEs counts. The other records are listed with the reason why they do not count, and so are records
whose arrays are damaged; a warning names the files of these and how to make them again.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from saebench.cards.registry import registry
from saebench.errors import UsageError, did_you_mean
from saebench.leaderboard.board import Board
from saebench.results.array_file import REMEDY, DamagedRecordError
from saebench.results.collection import Collection
from saebench.results.identity import inputs_by_content
from saebench.results.paired import mismatches
from saebench.results.record import GROUP, Arrays, Record, Status
from saebench.results.slug import slug
from saebench.results.units import most_common, other_units


class Place(NamedTuple):
    """What the rows of a stratum share, except the width class."""

    model: str
    hook: str
    preset: str
    groups: bool  # groups of SAEs are measured by other tasks and never share a stratum with single SAEs


class Subject(NamedTuple):
    """An SAE or group at one site.

    A control is fitted to the text of each task. Its contents differ between tasks, so they do not distinguish controls
    and its fingerprint is "".
    """

    model: str
    hook: str
    sae: str
    fingerprint: str


@dataclass(frozen=True)
class LeftOut:
    """A record that the board does not count, and why."""

    record: Record
    reason: str


class Gathered:
    """The records of a board.

    Attributes:
        tasks: ``tasks[place][task][subject]`` is the record that counts.
        slugs: The name of each subject's page.
        left_out: The records that do not count, with the reasons.
    """

    def __init__(self, board: Board, results: Collection) -> None:
        """Choose among ``results``.

        Raises UsageError where the board asks for a task, model, hook or preset that no record has.
        """
        self._results = results
        self.left_out: list[LeftOut] = []
        self.tasks: dict[Place, dict[str, dict[Subject, Record]]] = {}
        by_setting: dict[tuple[Place, str], list[Record]] = defaultdict(list)
        for record in _filtered(board, sorted(results.records, key=lambda record: record.record_id)):
            usable = _unusable(record) or self._undamaged(record)
            if isinstance(usable, str):
                self.left_out.append(LeftOut(record, usable))
            else:
                by_setting[place_of(usable), usable.identity.task].append(usable)
        for (place, task), records in sorted(by_setting.items()):
            self.tasks.setdefault(place, {})[task] = self._comparable(records)
        self.slugs = _slugs({subject for of_task in self.tasks.values() for one in of_task.values() for subject in one})
        self.left_out.sort(
            key=lambda entry: (entry.record.sae.name, entry.record.identity.task, entry.record.record_id)
        )

    def arrays(self, record: Record) -> Arrays:
        """Return the arrays of a record that counts: its contributions, and those that the task added."""
        return self._results.measured(record)[1]

    def counted(self) -> list[Record]:
        """Return all records that count, in the order of their ids."""
        by_id = {
            r.record_id: r
            for of_place in self.tasks.values()
            for of_task in of_place.values()
            for r in of_task.values()
        }
        return [by_id[key] for key in sorted(by_id)]

    def _undamaged(self, record: Record) -> Record | str:
        """Return the newest copy of ``record`` whose arrays are not damaged, or what is wrong with those of all copies.

        The reason does not name the folder, which belongs to one machine. A warning names it.
        """
        try:
            return self._results.measured(record)[0]
        except DamagedRecordError as error:
            warnings.warn(f"{error} The board leaves it out.", stacklevel=2)
            return f"its arrays in {error.path.name} are unusable ({error.reason}); {REMEDY}"

    def _comparable(self, records: list[Record]) -> dict[Subject, Record]:
        """Return, by subject, the records of the setting that counts, and leave out those of other settings."""
        by_setting: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_setting[_setting(record)].append(record)

        def weight(setting: str) -> tuple[int, int, str]:
            saes = {subject_of(r) for r in by_setting[setting] if r.status is Status.OK and not r.sae.control}
            return -len(saes), -len(by_setting[setting]), setting

        first, *others = sorted(by_setting, key=weight)
        units = most_common(record.units for record in by_setting[first])
        odd = [record for record in by_setting[first] if other_units(units, record.units)]
        alike = [record for record in by_setting[first] if not other_units(units, record.units)]
        counted: dict[Subject, Record] = {}
        # One SAE may have records from several kinds of device: ok comes before failed, then the newest counts.
        for record in sorted(alike, key=_preferred):
            if (known := counted.setdefault(subject_of(record), record)) is not record:
                self.left_out.append(LeftOut(record, f"record {known.record_id} of the same SAE and task counts"))
        example = by_setting[first][0].model_copy(update={"units": units})
        for record in [*odd, *(record for setting in others for record in by_setting[setting])]:
            self.left_out.append(
                LeftOut(record, f"measured differently from most. {' '.join(mismatches(example, record))}")
            )
        return counted


def place_of(record: Record) -> Place:
    return Place(record.identity.model, record.sae.hook, record.preset, record.sae.name.startswith(GROUP))


def subject_of(record: Record) -> Subject:
    contents = "" if record.sae.control else record.identity.sae_fingerprint
    return Subject(record.identity.model, record.sae.hook, record.identity.sae, contents)


def _filtered(board: Board, records: Iterable[Record]) -> list[Record]:
    """Return the records that fit the board's filter.

    Raises UsageError where the board asks for a task, model, hook or preset that no record has.
    """
    kept = [record for record in records if record.identity.task in board.tasks]
    if not kept:
        raise UsageError(f"There are no records of the tasks of board {board.name!r} ({', '.join(board.tasks)}).")
    wanted = {"model": board.filter.models, "hook": board.filter.hooks, "preset": board.filter.presets}
    for field, names in wanted.items():
        known = {_field(record, field) for record in kept}
        for name in names:
            if name not in known:
                raise UsageError(
                    f"No record of board {board.name!r} has the {field} {name!r}.{did_you_mean(name, known)}"
                )
    return [
        record
        for record in kept
        if all(
            not names or _field(record, field) in names or (field == "hook" and not record.sae.hook)
            for field, names in wanted.items()
        )
    ]


def _field(record: Record, field: str) -> str:
    return {"model": record.identity.model, "hook": record.sae.hook, "preset": record.preset}[field]


def _unusable(record: Record) -> str:
    """Say why a record cannot be on the board, whatever the other records are; empty when it can."""
    card = registry().card(record.identity.task)
    version, installed = record.identity.task_version, card.version
    if version < installed:
        return f"outdated: measured by version {version} of the task, but version {installed} counts"
    if version > installed:
        return f"measured by version {version} of the task, which is newer than the installed version {installed}"
    if record.preset not in card.presets:
        return f"the task has no preset {record.preset!r}"
    if not record.sae.hook:
        return f"failed before its hook was known: {record.error}"
    return ""


def _setting(record: Record) -> str:
    """Return all that must be equal for two numbers to be compared (see `saebench.results.paired.mismatches`)."""
    who = record.identity
    return json.dumps([*inputs_by_content(who), who.model_fingerprint, who.dtype, who.seed], sort_keys=True)


def _preferred(record: Record) -> tuple[bool, float, str]:
    return record.status is not Status.OK, -record.provenance.created.timestamp(), record.record_id


def _slugs(subjects: set[Subject]) -> dict[Subject, str]:
    """Return the name of each subject's file: that of the SAE, with more where several subjects share it."""
    count: dict[str, int] = defaultdict(int)
    for subject in subjects:
        count[slug(subject.sae)] += 1
    return {
        subject: slug(subject.sae)
        if count[slug(subject.sae)] == 1
        else slug(f"{subject.sae} {subject.fingerprint} {subject.hook} {subject.model}")
        for subject in subjects
    }
