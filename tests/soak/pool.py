"""Worker processes that have imported everything, from which children are forked in milliseconds."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import pkgutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.soak.world import World

_HELPERS = (  # they come first, because tests.conftest forbids threads and the network
    "tests.conftest",
    "tests.cache.conftest",
    "tests.results.conftest",
    "tests.runner.conftest",
    "tests.hostile.judge",
    "tests.soak.kills",
    "tests.soak.processes",
)
_base: Path | None = None  # the folder of this worker's soak


def make_pool(workers: int, base: Path) -> ProcessPoolExecutor:
    """Return a pool whose workers are warm.

    Args:
        workers: The number of processes.
        base: The folder in which the soak works.
    """
    base.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_warm_up, initargs=(base,))


def here() -> tuple[Path, World]:
    """Return the folder of the soak and the good inputs in it. Only a worker may ask."""
    from tests.soak.world import make_world

    assert _base is not None
    return _base, make_world(_base / "world")


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns for the folder of the soak, its good inputs and ``arguments``."""
    return function(*here(), *arguments)


def _warm_up(base: Path) -> None:
    """Import what the command line needs, so that no child has to. Nothing of saebench is called in this process."""
    global _base
    _base = base
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"  # a process with threads cannot be forked safely
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HOME"] = str(base / "hf")
    os.environ.pop("SAEBENCH_DEBUG", None)
    sys.dont_write_bytecode = True

    from filelock import FileLock

    import saebench

    for name in _HELPERS:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(saebench.__path__, "saebench."):
        # All at once, so that a change of the code while a soak runs cannot mix two versions.
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    with FileLock(base / "world.lock"):
        names = base / "modules"
        _, world = here()
        if not names.exists():
            _list_modules(world, base, names)
    for name in names.read_text("utf-8").split():
        if name not in sys.modules and not name.startswith("__"):
            try:
                importlib.import_module(name)
            except Exception:  # some modules can only be imported by their library
                continue
    gc.collect()
    gc.freeze()  # a child that collects garbage would copy every page of what is imported


def _list_modules(world: World, base: Path, names: Path) -> None:
    """Write the names of all modules that common commands import."""
    from tests.soak.child import Child, command
    from tests.soak.world import run_arguments

    place = base / "first"
    world.link_into(place)
    commands = [
        run_arguments("core", "dark_matter", "seed_stability"),
        ["table", "results"],
        ["compare", "sae_lens:sae0", "sae_lens:sae1", "--results", "results"],
        ["leaderboard", "build", "--results", "results", "--out", "board"],
        ["export", "--results", "results", "--out", "exported"],
        ["submit", "results"],
        ["doctor"],
    ]

    def work() -> int:
        for arguments in commands:
            try:
                command(*arguments)()
            except SystemExit:
                continue
        names.with_suffix(".part").write_text("\n".join(sys.modules), "utf-8")
        return 0

    done = Child(work, place, environment={"SAEBENCH_HOME": str(place / "home")}).wait(600)
    if done.code != 0:
        raise RuntimeError(f"the first commands ended with {done.code}:\n{done.text}")
    names.with_suffix(".part").rename(names)
