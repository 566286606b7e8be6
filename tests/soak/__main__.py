"""Try to lose, tear or change what the program keeps, and to make it fail in an undocumented way; print the figures.

Figures other than numbers and minutes must be 0. What is done is kept, so a second call with the same options goes on
where the first ended. Exit codes: 0 all figures are 0; 1 one is not; 3 the time is up, and something is left to do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

from tests.soak import page
from tests.soak.pool import make_pool
from tests.soak.state import State
from tests.soak.tally import Tally
from tests.soak.units import Sizes, Unit, do, units

FAULTY, UNFINISHED = 1, 3
_SHOWN = 1500  # characters of a fault


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    sizes = Sizes(options.kills, options.processes, options.hostile, options.fuzz)
    folder: Path = options.folder.absolute()
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    state = State(folder / "state.jsonl", {**asdict(sizes), "seed": options.seed})
    todo = units(sizes, options.seed)
    if any(unit.name in state.done for unit in todo):
        print(f"{len(state.done)} of {len(todo)} parts were done before")
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    with make_pool(options.workers, scratch) as pool:
        finished = run(pool, todo, state, options.workers, deadline)
    shutil.rmtree(scratch, ignore_errors=True)

    rows = total(todo, state)
    figures = page.table(rows)
    faults = sum(tally.bad for tally in rows.values())
    print(f"\n{figures}\n")
    about = page.machine(options.workers, options.seed, folder)
    print(about)
    if options.page is not None and finished:
        page.write(options.page, f"{figures}\n\n{about}")
    if faults:
        print(f"{faults} faults; {folder / 'state.jsonl'} holds a sentence for each")
        return FAULTY
    if not finished:
        print("the time is up; the same command goes on from here")
        return UNFINISHED
    return 0


def run(
    pool: ProcessPoolExecutor, todo: Sequence[Unit], state: State, workers: int, deadline: float | None = None
) -> bool:
    """Do the units that are not done, print their faults, and return whether all are done."""
    left = [unit for unit in todo if unit.name not in state.done]
    running: dict[Future[Tally], Unit] = {}
    while left or running:
        while left and len(running) < workers and (deadline is None or time.monotonic() < deadline):
            unit = left.pop(0)
            running[pool.submit(do, unit)] = unit
        if not running:
            return False
        ready, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
            unit = running.pop(future)
            tally = future.result()
            state.add(unit.name, tally)
            print(f"[{len(state.done)}/{len(todo)}] {unit.name}: {tally.number} in {tally.seconds:.0f} s", flush=True)
            for fault in tally.faults:
                print(f"    {fault[:_SHOWN]}", flush=True)
    return True


def total(todo: Sequence[Unit], state: State) -> dict[str, Tally]:
    """Return the counts of each row of the table; ``todo`` gives their order."""
    rows: dict[str, Tally] = {}
    for unit in todo:
        rows.setdefault(unit.row, Tally()).add(state.done.get(unit.name, Tally()))
    return rows


def _parser() -> argparse.ArgumentParser:
    default = Sizes()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=default.kills, metavar="N", help="kills  [%(default)s]")
    add("--processes", type=int, default=default.processes, metavar="N", help="processes at once  [%(default)s]")
    add("--hostile", type=int, metavar="N", help="hostile inputs  [all]")
    add("--fuzz", type=int, default=default.fuzz, metavar="N", help="fuzzed inputs  [%(default)s]")
    add("--seed", type=int, default=0, metavar="N", help="seeds every choice  [%(default)s]")
    add("--minutes", type=float, metavar="N", help="begin nothing new after so long  [no limit]")
    add("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="trials at a time  [one per core]")
    add("--folder", type=Path, default=Path("build/soak"), metavar="DIR", help="where to work  [%(default)s]")
    add("--page", type=Path, metavar="FILE", help="a page between whose markers the figures are written  [none]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
