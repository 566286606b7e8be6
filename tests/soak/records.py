"""Reading folders in which damaged and hostile records lie beside good ones."""

from __future__ import annotations

import functools
import pickle
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.case import DOCUMENTED
from tests.soak.child import GIB, Child
from tests.soak.mutants import write_mutants
from tests.soak.tally import Tally
from tests.soak.world import World

_TOGETHER = 40  # mutants that lie in one folder
_SECONDS = 600
_MEMORY = 6 * GIB
_TRACEBACK = "Traceback (most recent call last)"
# Everything that reads records. A command that must succeed because good records are there is marked by True.
_READERS: tuple[tuple[bool, tuple[str, ...]], ...] = (
    (True, ("table", "results")),
    (True, ("table", "results", "--long", "--format", "csv", "--output", "long.csv")),
    (True, ("table", "results", "--format", "json", "--output", "long.json")),
    (True, ("table", "results", "--format", "parquet", "--output", "long.parquet")),
    (True, ("table", "results", "--format", "latex", "--output", "wide.tex")),
    (False, ("compare", "sae_lens:sae0", "sae_lens:sae1", "--results", "results", "--seed", "0", "--all", "--subsets")),
    (True, ("leaderboard", "build", "--results", "results", "--out", "board")),
    (True, ("export", "results", "--out", "exported")),
    (False, ("submit", "results")),
)


def fuzz_records(base: Path, world: World, seed: int, n: int) -> Tally:
    """Return what ``n`` mutants did to everything that reads records.

    Args:
        base: The folder of the soak.
        world: The good inputs, whose records lie beside the mutants.
        seed: What the mutants are drawn from.
        n: The number of mutants.
    """
    tally = Tally()
    for start in range(0, n, _TOGETHER):
        folder = base / f"records-{seed}-{start}"
        tally.add(_one_folder(folder, world, f"{seed} {start}", min(_TOGETHER, n - start)))
        shutil.rmtree(folder, ignore_errors=True)
    return tally


def _one_folder(folder: Path, world: World, seed: str, n: int) -> Tally:
    shutil.copytree(world.records, folder / "results")
    good = sorted(path.stem for path in world.records.rglob("*.json"))

    def write() -> int:
        paths = write_mutants(random.Random(seed), world.records, folder / "results", n)
        (folder / "mutants").write_bytes(pickle.dumps(paths))
        return 0

    tally = Tally(number=n)
    written = Child(write, folder).wait(_SECONDS)
    if written.code != 0:
        raise RuntimeError(f"the mutants of seed {seed} cannot be written: {written.text}")
    mutants: list[Path] = pickle.loads((folder / "mutants").read_bytes())
    for number, problem in _read(folder, _READERS, good).items():
        fails = functools.partial(_read, folder, [_READERS[number]], good)
        culprits = _culprits(folder, mutants, fails)
        told = "\n".join(f"{path.name}: {path.read_bytes()[:3000]!a}" for path in culprits if path.exists())
        kind = "lost" if problem.startswith("lost") else "undocumented"
        tally.fault(kind, f"seed {seed}, saebench {' '.join(_READERS[number][1])}: {problem}\n{told}")
    return tally


def _read(folder: Path, readers: Sequence[Any], good: list[str]) -> dict[int, str]:
    """Return what goes wrong in which of ``readers``, by their numbers."""
    path = folder / "problems"
    path.unlink(missing_ok=True)

    def work() -> int:
        problems = {}
        for number, (must, words) in enumerate(readers):
            if problem := _problem(words, must, good):
                problems[number] = problem
            path.write_bytes(pickle.dumps(problems))
        return 0

    environment = {"SAEBENCH_HOME": str(folder / "home"), "TMPDIR": str(folder)}
    outcome = Child(work, folder, environment=environment, memory=_MEMORY).wait(_SECONDS)
    problems: dict[int, str] = pickle.loads(path.read_bytes()) if path.exists() else {}
    if outcome.code != 0:
        end = "does not end" if outcome.late else f"ends with {outcome.code}"
        problems[min(len(problems), len(readers) - 1)] = f"a reader {end}: {outcome.text[-1500:]}"
    return problems


def _problem(words: Sequence[str], must: bool, good: list[str]) -> str:
    """Return what is wrong with what a command does; empty if nothing is."""
    from click.testing import CliRunner

    from saebench.cli.main import cli

    result = CliRunner().invoke(cli, list(words), prog_name="saebench")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"it raises {result.exception!r}"
    if result.exit_code not in DOCUMENTED or _TRACEBACK in result.output:
        return f"it ends with {result.exit_code}: {result.output[-1000:]}"
    if must and result.exit_code != 0:
        return f"lost: bad records end it with {result.exit_code}: {result.output[-1000:]}"
    check = _CHECKS.get(" ".join(words[:1]))
    return check(words, good) if check else ""


def _table(words: Sequence[str], good: list[str]) -> str:
    if "long.csv" not in words:
        return ""
    text = Path("long.csv").read_text("utf-8")
    missing = [name for name in good if name not in text]
    return f"lost: the table lacks {missing}" if missing else ""


def _board(words: Sequence[str], good: list[str]) -> str:
    text = Path("board/leaderboard.csv").read_text("utf-8")
    missing = [sae for sae in ("sae_lens:sae0", "sae_lens:sae1", "baseline:random") if sae not in text]
    return f"lost: the board lacks {missing}" if missing else ""


_CHECKS: dict[str, Callable[[Sequence[str], list[str]], str]] = {"table": _table, "leaderboard": _board}


def _culprits(folder: Path, mutants: list[Path], fails: Callable[[], object]) -> list[Path]:
    """Return the mutants of the smallest half, quarter, ... of the folder with which a reader still fails."""
    suspects = list(mutants)
    while len(suspects) > 1:
        for part in (suspects[: len(suspects) // 2], suspects[len(suspects) // 2 :]):
            others = [path for path in mutants if path not in part]
            hidden = [(path, folder / "hidden" / f"{i}") for i, path in enumerate(_files(others))]
            (folder / "hidden").mkdir(exist_ok=True)
            for path, place in hidden:
                path.rename(place)
            still = fails()
            for path, place in hidden:
                place.rename(path)
            if still:
                suspects = part
                break
        else:
            break
    return suspects


def _files(mutants: list[Path]) -> list[Path]:
    return [path for mutant in mutants for path in (mutant, mutant.with_suffix(".npz")) if path.exists()]
