"""Many processes that work on the same folders at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.soak.child import Child, Outcome, Work
from tests.soak.contents import Contents, contents
from tests.soak.kills import TRACEBACK, Reference, judge_complete, known_reference
from tests.soak.scenes import SCENES
from tests.soak.tally import Tally
from tests.soak.world import World

_SECONDS = 600  # for dozens of processes on two cores
_SERIES, _SHARDS, _READS = 3, 4, 250  # what processes read and write that crowd a cache
_LIMIT = 7 * 1000  # bytes; twelve shards of 700 bytes and more want in
_SHARED, _OWN = 5, 5  # records that every writer writes, and records of each writer alone


def together(base: Path, world: World, name: str, n: int, seed: int) -> Tally:
    """Let processes do the work of one scene in one folder at once, kill a quarter of them, and compare the result.

    Args:
        base: The folder of the soak.
        world: The good inputs.
        name: The name of the scene.
        n: The number of processes.
        seed: Seeds their delays.
    """
    draw = random.Random(f"{name} {seed}")
    scene = SCENES[name](world)
    reference = known_reference(scene, base)
    folder = base / f"together-{name}-{seed}".replace(" ", "-")
    scene.prepare(folder)
    tally = Tally(number=n)
    killed = set(draw.sample(range(n), n // 4))
    children = []
    for _ in range(n):
        work = _slowly(scene.work(folder), draw.random())
        children.append(Child(work, folder, environment=scene.environment(folder)))
        time.sleep(draw.uniform(0, 2 * reference.seconds / n))  # so that some begin while others are writing
    for index in killed:
        if not children[index].ended_within(draw.uniform(0, 0.2)):
            children[index].send(signal.SIGKILL)
    for index, child in enumerate(children):
        outcome = child.wait(_SECONDS)
        allowed = {reference.code, -signal.SIGKILL} if index in killed else {reference.code}
        _judge(outcome, allowed, f"{scene.name}, process {index} of {n}", tally)
    last = Child(scene.work(folder), folder, environment=scene.environment(folder)).wait(_SECONDS)
    _judge(last, {reference.code}, f"{scene.name}, after {n} processes", tally)
    judge_complete(scene.contents(folder), reference, {}, f"{scene.name}, {n} processes", tally)
    for problem in scene.problems(folder):
        tally.fault("changed", f"{scene.name}, {n} processes: {problem}")
    shutil.rmtree(folder)
    return tally


def writers(base: Path, world: World, n: int, seed: int) -> Tally:
    """Let processes write the same and different records into one store at once, each reading what the others write."""
    folder = base / f"writers-{seed}"
    folder.mkdir(parents=True)
    tally = Tally(number=n)
    children = [Child(_slowly(_writer(folder, index), index / n), folder) for index in range(n)]
    for index, child in enumerate(children):
        _judge(child.wait(_SECONDS), {0}, f"store, writer {index} of {n}", tally)
    right = _right_files(base / f"alone-{seed}", n)
    judge_complete(
        contents(folder, root=folder), Reference(right.files, {}, 0, 0.0, ()), {}, f"store, {n} writers", tally
    )
    shutil.rmtree(folder)
    return tally


def crowd(base: Path, world: World, n: int, seed: int) -> Tally:
    """Let processes read, write and evict at once in one cache that is too small for all they write."""
    folder = base / f"crowd-{seed}"
    folder.mkdir(parents=True)
    tally = Tally(number=n)
    children = [Child(lambda draw=index: _evict(folder, 1000 * seed + draw), folder) for index in range(n)]
    for index, child in enumerate(children):
        _judge(child.wait(_SECONDS), {0}, f"cache, process {index} of {n}", tally)
    now = contents(folder, root=folder)
    for name, reason in now.torn.items():
        tally.fault("torn", f"cache, {n} processes: {name}: {reason}")
    for name in now.temporary:
        tally.fault("leftovers", f"cache, {n} processes: {name} is left over")
    size = sum(map(len, now.files.values()))
    # Each of the others may have written an eighth, and the shard that goes over it, since the last look.
    if not 0 < size <= _LIMIT + (n - 1) * (_LIMIT // 8 + 1000):
        tally.fault("undocumented", f"cache, {n} processes: it holds {size} bytes, although its limit is {_LIMIT}")
    shutil.rmtree(folder)
    return tally


def _evict(folder: Path, seed: int) -> int:
    """Read random shards, write those that are missing, and return 1 if anything is wrong."""
    from saebench.cache.tensors import TensorCache
    from tests.cache.conftest import content, same

    log: list[str] = []
    cache = TensorCache(folder, memory=0, disk=_LIMIT, log=log.append)
    series = [cache.series({"name": number}, _SHARDS, 1) for number in range(_SERIES)]
    draw = random.Random(seed)
    for _ in range(_READS):
        number, index = draw.randrange(_SERIES), draw.randrange(_SHARDS)
        right = content(_SHARDS * number + index, 120 + draw.randrange(2))  # bytes may differ between writers
        stored = series[number].read(series[number].shards[index])
        if stored is None:
            series[number].write(series[number].shards[index], right)
        elif not same(stored, content(_SHARDS * number + index, len(stored["x"]))):
            log.append(f"shard {index} of series {number} is wrong")
    if cache.hits <= _READS // 10 or not cache.misses:
        log.append(f"there were {cache.hits} hits and {cache.misses} misses")
    print("\n".join(log))
    return 1 if log else 0


def _right_files(folder: Path, n: int) -> Contents:
    """Return what the store holds when one process alone writes everything."""
    folder.mkdir()
    for index in range(n):
        _write_records(folder, index, read=False)
    result = contents(folder, root=folder)
    shutil.rmtree(folder)
    return result


def _writer(folder: Path, index: int) -> Work:
    def work() -> int:
        from saebench.results.store import ResultStore

        warnings.simplefilter("error")  # such as one that names a damaged file
        _write_records(folder, index, read=True)
        return 0 if all(len(ResultStore(folder).arrays(record)) == 2 for record in ResultStore(folder)) else 1

    return work


def _write_records(folder: Path, index: int, read: bool) -> None:
    from saebench.results.store import ResultStore
    from tests.results.conftest import make_identity, make_number, make_record

    store = ResultStore(folder)
    for seed in [*range(_SHARED), *(1000 * (index + 1) + number for number in range(_OWN))]:
        arrays = {"fvu.num": np.arange(1000.0) + seed, "fvu.den": np.ones(1000)}
        value = float(arrays["fvu.num"].sum() / 1000)
        record = make_record(make_identity(seed=seed), measurements=[make_number("fvu", value, contributions="fvu")])
        store.write(record, arrays)
        for other in store if read and seed % 5 == 0 else ():
            store.arrays(other)


def _slowly(work: Work, seed: float) -> Work:
    """Return the work with pauses before files are moved into place, so that others see them on the way."""

    def paused() -> int | None:
        draw = random.Random(seed)
        replace: Callable[..., None] = os.replace

        def later(source: str, target: str) -> None:
            if draw.random() < 0.2:
                time.sleep(draw.uniform(0, 0.3))
            replace(source, target)

        os.replace = later  # type: ignore[assignment]
        return work()

    return paused


def _judge(outcome: Outcome, codes: set[int], where: str, tally: Tally) -> None:
    tally.seconds += outcome.seconds
    if outcome.late:
        tally.fault("undocumented", f"{where} does not end")
    elif outcome.code not in codes or TRACEBACK in outcome.text:
        tally.fault("undocumented", f"{where} ends with {outcome.code}: {outcome.text[-1500:]}")
    for line in outcome.outlived:
        tally.fault("leftovers", f"{where}: a process outlives it: {line}")
