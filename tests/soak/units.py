"""The parts that a soak is made of, each of which a worker does in less than a minute or two."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.soak.tally import Tally

if TYPE_CHECKING:
    from tests.soak.world import World

KILLS = {"run": 0.4, "cache write": 0.15, "asset pull": 0.15, "asset pull by pip": 0.05, "board build": 0.25}
RUNS = ("run", "cache write", "asset pull", "board build")  # what many processes do at once, beside writing records
FUZZ = {"references": 0.4, "documents": 0.3, "command_lines": 0.25, "records": 0.05}
_GROUPS, _CASES, _EXAMPLES, _MUTANTS = 6, 8, 2000, 200  # in one unit


@dataclass(frozen=True)
class Sizes:
    """How much a soak does: kills, processes that write at once, hostile inputs (all if None), and fuzzed inputs.

    If not ``timed``, no kill strikes at a random time, so that the soak does the same on every machine.
    """

    kills: int = 400  # of which half or more strike before the work is complete
    processes: int = 32
    hostile: int | None = None
    fuzz: int = 200_000
    timed: bool = True


@dataclass(frozen=True)
class Unit:
    """A part of the soak.

    Attributes:
        row: The row of the table that it counts for, such as ``kills: run``.
        name: Its name, unique in the soak.
        work: What a worker calls with the folder of the soak, the good inputs and ``arguments``.
        arguments: Plain values.
    """

    row: str
    name: str
    work: Callable[..., Tally]
    arguments: tuple[Any, ...]


def units(sizes: Sizes, seed: int) -> list[Unit]:
    """Return all parts of a soak; the largest come first."""
    return [*_processes(sizes, seed), *_kills(sizes, seed), *_fuzz(sizes, seed), *_hostile(sizes)]


def do(unit: Unit) -> Tally:
    """Do a part of the soak in a worker and return what it counted."""
    from tests.soak.pool import here

    started = time.monotonic()
    tally = unit.work(*here(), *unit.arguments)
    tally.seconds = time.monotonic() - started
    return tally


def _processes(sizes: Sizes, seed: int) -> Iterator[Unit]:
    if not sizes.processes:
        return
    yield Unit("processes: writers of one store", "writers", _write, (sizes.processes, seed))
    yield Unit("processes: a cache that is too small", "crowd", _crowd, (max(3, sizes.processes // 4), seed))
    n = max(2, 3 * sizes.processes // 8)
    for scene in RUNS:
        yield Unit(f"processes: {scene}", f"together {scene}", _together, (scene, n, seed))


def _kills(sizes: Sizes, seed: int) -> Iterator[Unit]:
    for scene, share in KILLS.items():
        if n := round(share * sizes.kills):
            parts = -(-n // (2 * _GROUPS))  # a group has about two kills
            for part in range(parts):
                yield Unit(
                    f"kills: {scene}", f"kills {scene} {part}", _kill, (scene, n, seed, part, parts, sizes.timed)
                )


def _hostile(sizes: Sizes) -> Iterator[Unit]:
    if sizes.hostile == 0:
        return
    from tests.hostile.judge import corpora

    names = list(corpora())
    if sizes.hostile is not None and sizes.hostile < len(names):
        names = [names[i * len(names) // sizes.hostile] for i in range(sizes.hostile)]
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(name.split("/")[0], []).append(name)
    for family, members in families.items():
        for start in range(0, len(members), _CASES):
            yield Unit(f"hostile: {family}", f"hostile {members[start]}", _judge, (members[start : start + _CASES],))


def _fuzz(sizes: Sizes, seed: int) -> Iterator[Unit]:
    for kind, share in FUZZ.items():
        step = _MUTANTS if kind == "records" else _EXAMPLES
        left = round(share * sizes.fuzz)
        for part in range(-(-left // step)):
            work = _fuzz_records if kind == "records" else _fuzz_kind
            n = min(step, left - part * step)
            yield Unit(f"fuzz: {kind.replace('_', ' ')}", f"fuzz {kind} {part}", work, (kind, 1000 * seed + part, n))


def _write(base: Path, world: World, n: int, seed: int) -> Tally:
    from tests.soak.processes import writers

    return writers(base, world, n, seed)


def _crowd(base: Path, world: World, n: int, seed: int) -> Tally:
    from tests.soak.processes import crowd

    return crowd(base, world, n, seed)


def _together(base: Path, world: World, scene: str, n: int, seed: int) -> Tally:
    from tests.soak.processes import together

    return together(base, world, scene, n, seed)


def _kill(base: Path, world: World, name: str, n: int, seed: int, part: int, parts: int, timed: bool) -> Tally:
    from tests.soak.kills import known_reference, plan, trial
    from tests.soak.scenes import SCENES

    scene = SCENES[name](world)
    reference = known_reference(scene, base)
    tally = Tally()
    blows = plan(reference, n, random.Random(f"{name} {seed}"), timed=timed)
    for number, group in enumerate(blows[part::parts]):
        folder = base / f"kills-{name}-{part}-{number}".replace(" ", "-")
        tally.add(trial(scene, reference, group, folder))
    return tally


def _judge(base: Path, world: World, names: list[str]) -> Tally:
    from tests.hostile.judge import corpora, judge

    tally = Tally()
    for name in names:
        folder = base / f"hostile-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        verdict = judge(corpora()[name], world.surroundings, folder)
        tally.number += 1
        tally.kinds[f"exit code {verdict.code}"] += 1
        for kind, sentence in verdict.faults:
            tally.fault(kind, f"{name}: {sentence}")
    return tally


def _fuzz_kind(base: Path, world: World, kind: str, seed: int, n: int) -> Tally:
    from tests.soak.fuzzing import fuzz

    return fuzz(base, kind, seed, n)


def _fuzz_records(base: Path, world: World, kind: str, seed: int, n: int) -> Tally:
    from tests.soak.records import fuzz_records

    return fuzz_records(base, world, seed, n)
