"""Stopping work at every moment, doing it again, and comparing what is there with an undisturbed run."""

from __future__ import annotations

import pickle
import random
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tests.soak.child import Child, Outcome, Work
from tests.soak.contents import Contents
from tests.soak.scenes import Scene
from tests.soak.steps import Blow, Steps
from tests.soak.tally import Tally

_SECONDS = 300  # for work that takes a few seconds; only a hang takes longer
_ENDS = {  # the exit codes that a signal may lead to; work that was just complete ends as usual
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGTERM: {-signal.SIGTERM, 128 + signal.SIGTERM},
    signal.SIGINT: {130},
}
TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a scene.

    Attributes:
        files: The content of each file before and after the work.
        before: The content of each file before it.
        code: The exit code.
        seconds: How long it took.
        steps: What each step did, such as "move .json".
    """

    files: dict[str, bytes]
    before: dict[str, bytes]
    code: int
    seconds: float
    steps: tuple[str, ...]


def reference(scene: Scene, folder: Path) -> Reference:
    """Do the work of a scene undisturbed, twice: once to measure it, and once to list its steps.

    Raises RuntimeError if the two differ, because then no comparison would mean anything.
    """
    runs = []
    for name in ("plain", "counted"):
        place = folder / name
        scene.prepare(place)
        before = scene.contents(place)
        log = folder / "steps" if name == "counted" else None
        outcome = _run(scene, place, scene.work(place), log=log)
        after = scene.contents(place)
        if outcome.code not in (0, 1) or after.torn or after.temporary or TRACEBACK in outcome.text:
            raise RuntimeError(f"undisturbed, {scene.name} ends with {outcome.code}: {after}\n{outcome.text}")
        runs.append((before, outcome, after))
    (before, outcome, after), (_, again, same) = runs
    if (outcome.code, after.files) != (again.code, same.files):
        differing = [name for name in {**after.files, **same.files} if after.files.get(name) != same.files.get(name)]
        raise RuntimeError(f"two undisturbed runs of {scene.name} differ in {differing}")
    steps = tuple(_label(line) for line in (folder / "steps").read_text().splitlines())
    shutil.rmtree(folder)
    return Reference(after.files, before.files, outcome.code, outcome.seconds, steps)


def known_reference(scene: Scene, base: Path) -> Reference:
    """Return the undisturbed run of a scene, which is done once for all workers of the soak in ``base``."""
    folder = base / "references"
    folder.mkdir(exist_ok=True)
    path = folder / f"{scene.name}.pickle"
    with FileLock(folder / f"{scene.name}.lock"):
        if not path.exists():
            path.write_bytes(pickle.dumps(reference(scene, folder / scene.name.replace(" ", "-"))))
        return pickle.loads(path.read_bytes())


def plan(reference: Reference, n: int, draw: random.Random, *, timed: bool = True) -> list[list[Blow]]:
    """Return ``n`` blows, grouped by the folder that they strike one after the other.

    Two thirds strike at a step, so that every kind of step is hit before any kind is hit again, and the rest at a
    random time. Most are SIGKILL. If not ``timed``, all strike at a step, so that a slow machine does the same as a
    fast one; these are fewer where the work has fewer steps.
    """
    places: dict[str, list[int]] = {}
    for number, step in enumerate(reference.steps):
        places.setdefault(step, []).append(number)
    for numbers in places.values():
        draw.shuffle(numbers)
    rounds = (
        numbers[i] for i in range(max(map(len, places.values()))) for numbers in places.values() if i < len(numbers)
    )
    blows = []
    for index, step in enumerate(rounds):
        if index >= (2 * n // 3 if timed else n):
            break
        number = draw.choices([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], [8, 1, 1])[0]
        blows.append(Blow(number, step, torn=reference.steps[step].startswith("write") and draw.random() < 0.7))
    while timed and len(blows) < n:
        number = draw.choices([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], [6, 2, 2])[0]
        blows.append(Blow(number, seconds=draw.uniform(0, 1.1 * reference.seconds)))
    draw.shuffle(blows)
    groups: list[list[Blow]] = []
    while blows:
        size = draw.choice([1, 1, 2, 3])
        groups.append([blows.pop() for _ in range(min(size, len(blows)))])
    return groups


def trial(scene: Scene, reference: Reference, blows: Sequence[Blow], folder: Path) -> Tally:
    """Strike the work of a scene several times, do it to the end, and return what that did to the folder."""
    tally = Tally()
    scene.prepare(folder)
    whole: dict[str, bytes] = dict(reference.before)
    for blow in blows:
        outcome = _run(scene, folder, scene.work(folder), blow)
        where = f"{scene.name}, {_describe(blow, reference)}"
        tally.number += outcome.code != reference.code
        tally.kinds[signal.Signals(blow.number).name if outcome.code != reference.code else "too late"] += 1
        _judge_end(outcome, blow, reference, where, tally)
        now = scene.contents(folder)
        _judge_files(now, reference, whole, where, tally)
        whole = now.files
    where = f"{scene.name}, complete after " + ", ".join(_describe(blow, reference) for blow in blows)
    written = _record_times(folder)
    outcome = _run(scene, folder, scene.work(folder))
    for name, _ in written - _record_times(folder):
        tally.fault("lost", f"{where}: the record {name} was complete and was made again, or is gone")
    if outcome.code != reference.code or TRACEBACK in outcome.text:
        tally.fault("undocumented", f"{where}: it ends with {outcome.code}: {outcome.text[-500:]}")
    judge_complete(scene.contents(folder), reference, whole, where, tally)
    for problem in scene.problems(folder):
        if ".tmp-" not in problem:  # these are counted as left over
            tally.fault("changed", f"{where}: {problem}")
    shutil.rmtree(folder)
    return tally


def _run(scene: Scene, folder: Path, work: Work, blow: Blow | None = None, log: Path | None = None) -> Outcome:
    def counted() -> int | None:
        Steps(folder, blow, log).install()
        return work()

    at_step = log is not None or (blow is not None and blow.step is not None)
    child = Child(counted if at_step else work, folder, environment=scene.environment(folder))
    if blow is not None and blow.step is None and not child.ended_within(blow.seconds):
        child.send(blow.number)
    return child.wait(_SECONDS)


def _judge_end(outcome: Outcome, blow: Blow, reference: Reference, where: str, tally: Tally) -> None:
    """Count an end that nobody promised, and processes that live on."""
    if outcome.late:
        tally.fault("undocumented", f"{where}: it does not end")
    elif outcome.code not in {*_ENDS[signal.Signals(blow.number)], reference.code}:
        tally.fault("undocumented", f"{where}: it ends with {outcome.code}: {outcome.text[-500:]}")
    elif TRACEBACK in outcome.text:
        tally.fault("undocumented", f"{where}: it prints a traceback: {outcome.text[-1500:]}")
    for line in outcome.outlived:
        tally.fault("leftovers", f"{where}: a process outlives it: {line}")


def _judge_files(now: Contents, reference: Reference, whole: dict[str, bytes], where: str, tally: Tally) -> None:
    """Count what is damaged after a blow; files may be missing that were not there before it."""
    for name, reason in now.torn.items():
        tally.fault("torn", f"{where}: {name}: {reason}")
    for name, content in now.files.items():
        if content not in (reference.files.get(name), reference.before.get(name)):
            half = reference.files.get(name, b"").startswith(content)
            tally.fault("torn" if half else "changed", f"{where}: {name} is {'half written' if half else 'different'}")
    for name in whole.keys() - now.files.keys() - now.torn.keys():
        if name in reference.files:
            tally.fault("lost", f"{where}: {name} was there before")


def judge_complete(now: Contents, reference: Reference, whole: dict[str, bytes], where: str, tally: Tally) -> None:
    """Count what differs from an undisturbed run once the work is complete."""
    _judge_files(now, reference, whole, where, tally)
    for name in reference.files.keys() - now.files.keys() - now.torn.keys() - whole.keys():
        tally.fault("lost", f"{where}: {name} is not there")
    for name, content in now.files.items():
        if name in reference.before and content != reference.files.get(name):
            tally.fault("changed", f"{where}: {name} is as it was before")
    for name in now.temporary:
        tally.fault("leftovers", f"{where}: {name} is left over")


def _record_times(folder: Path) -> set[tuple[str, int]]:
    """Return the records in a folder, and when each was written. A record that is there is never computed again."""
    return {(path.name, path.stat().st_mtime_ns) for path in (folder / "results").rglob("*.json")}


def _describe(blow: Blow, reference: Reference) -> str:
    name = signal.Signals(blow.number).name
    if blow.step is None:
        return f"{name} after {blow.seconds:.2f} s"
    return f"{name} {'in the middle of' if blow.torn else 'before'} step {blow.step} ({reference.steps[blow.step]})"


def _label(line: str) -> str:
    """Return the kind of a step, such as ``move .json``: what is done to what sort of file."""
    what, path = line.split("\t")
    name = Path(path).name
    if name.startswith(".tmp-"):
        return f"{what} temporary file"
    return f"{what} {Path(path).suffix or 'other'}" if "folder" not in what else what
