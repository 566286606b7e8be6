"""Command lines with numbers, paths and words that no command expects."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.hostile.case import DOCUMENTED, Case, Surroundings

DONE, REFUSED = frozenset({0}), frozenset({2})
DIGITS = "9" * 5000
LONG = "x" * 5000
BYTE = os.fsdecode(b"\xff")  # a byte that is not UTF-8, as Python receives it

Make = Callable[[Path, Surroundings], Sequence[object]]


def cases() -> list[Case]:
    """Return the cases. None of them may take long, and nothing is written outside the folder of the case."""
    return [*_options(), *_paths(), *_reading(), *_words()]


def _case(name: str, make: Make, *says: str, codes: frozenset[int] = REFUSED) -> Case:
    def write(folder: Path, around: Surroundings) -> Sequence[str]:
        return [str(word) for word in make(folder, around)]

    return Case(name, "arguments", write, says, codes)


def _plan(name: str, *words: str, says: str = "", codes: frozenset[int] = REFUSED) -> Case:
    """Return the case of a run that is only planned."""

    def make(folder: Path, around: Surroundings) -> Sequence[object]:
        good = ["--model", around.model, "--text", f"jsonl:{around.text}", "--sae", "baseline:neurons"]
        return ["run", "--dry-run", "--tasks", "core", *good, "--out", folder / "out", *words]

    return _case(name, make, *filter(None, [says]), codes=codes)


def _options() -> list[Case]:
    """Values of the options of a run."""
    return [
        _plan("a limit of 5,000 digits", "--limit", DIGITS, says="--limit"),
        _plan("a limit of 20 digits", "--limit", "9" * 20, says="limit"),
        _plan("a limit below zero", "--limit", "-1", says="--limit"),
        _plan("a limit that is infinite", "--limit", "inf", says="--limit"),
        _plan("a limit that is no number", "--limit", "nan", says="--limit"),
        _plan("a limit of nothing", "--limit", "", says="--limit"),
        _plan("a limit with a fraction", "--limit", "2.5", says="--limit"),
        _plan("a limit in another script", "--limit", "\u0663", codes=DOCUMENTED),
        _plan("a batch of 5,000 digits", "--batch-size", DIGITS, says="--batch-size"),
        _plan("a batch of zero", "--batch-size", "0", says="--batch-size"),
        _plan("a batch of 20 digits", "--batch-size", "9" * 20, says="batch_size"),
        _plan("a seed of 5,000 digits", "--seed", DIGITS, says="--seed"),
        _plan("a seed below zero", "--seed", "-1", says="seed"),
        _plan("a seed of 20 digits", "--seed", "9" * 20, says="seed"),
        _plan("a seed beside a bad one", "--seed", "1", "--seed", "-2", says="seed"),
        _plan("a budget of 5,000 digits", "--memory-budget", f"{DIGITS}GB", says="is not an amount of memory"),
        _plan("a budget below zero", "--memory-budget", "-1GB", says="is not an amount of memory"),
        _plan("a budget of nothing", "--memory-budget", "", says="is not an amount of memory"),
        _plan("a budget that is infinite", "--cache-budget", "inf", says="is not an amount of memory"),
        _plan("a budget with an exponent", "--cache-budget", "1e999", says="is not an amount of memory"),
        _plan("a budget in another script", "--cache-budget", "\u0661GB", says="is not an amount of memory"),
        _plan("a device of nothing", "--device", "", codes=DOCUMENTED),
        _plan("a dtype with a byte that is not UTF-8", "--dtype", BYTE, says="--dtype"),
        _plan("a suite of 5,000 letters", "--suite", LONG, says="There is no suite"),
        _plan("a suite with escapes", "--suite", "\x1b[31m\x07", says="There is no suite"),
        _plan("a suite with a byte that is not UTF-8", "--suite", BYTE, says="is not UTF-8"),
        _plan("a preset that is a path", "--preset", "../../etc", says="There is no preset"),
        _plan("tasks of commas", "--tasks", ",,,", says="name at least one task"),
        _plan("a task of 5,000 letters", "--tasks", LONG, says="There is no task"),
        _plan("a task with a byte that is not UTF-8", "--tasks", BYTE, says="is not UTF-8"),
        _plan("10,000 SAEs", *["--sae", "baseline:neurons"] * 10_000, codes=DONE),
        _plan("1,000 different SAEs", *(f"--sae=baseline:pca?k={k}" for k in range(1, 1001)), codes=DONE),
        _plan("1,000 seeds", *(f"--seed={seed}" for seed in range(1000)), codes=DONE),
        _plan("an option without a value", "--sae", says="requires an argument"),
        _plan("a flag with a value", "--trust-remote-code=yes", says="--trust-remote-code"),
        _plan("an option that does not exist", "--modell", "x", says="No such option"),
        _plan("a word too many", "word", says="unexpected extra argument"),
        _plan("5,000 words too many", *["word"] * 5000, says="unexpected extra arguments"),
        _plan("an empty word too many", "", says="unexpected extra argument"),
        _plan("a dash", "-", says="unexpected extra argument"),
        _plan("escapes in an option", "--\x1b[31m", says="No such option"),
    ]


def _paths() -> list[Case]:
    """Folders and files to write into that cannot be."""

    def into(folder: Path, around: Surroundings, out: object) -> Sequence[object]:
        good = ["--model", around.model, "--text", f"jsonl:{around.text}", "--sae", "baseline:neurons"]
        sizes = ["--tasks", "core", "--preset", "smoke", "--limit", "4", "--device", "cpu", "--cache-budget", "0"]
        return ["run", *sizes, *good, "--out", out]

    def link(folder: Path) -> Path:
        (folder / "link").symlink_to("link")
        return folder / "link"

    def file(folder: Path) -> Path:
        (folder / "file").touch()
        return folder / "file"

    places: dict[str, Callable[[Path], object]] = {
        "the null device": lambda folder: "/dev/null",
        "a folder below a device": lambda folder: "/dev/null/x",
        "a folder of the kernel": lambda folder: "/proc/nothing",
        "a name that is too long": lambda folder: folder / LONG,
        "a path that is too long": lambda folder: f"{folder}/{'a/' * 5000}",
        "a link to itself": link,
        "a file": file,
        "a folder below a file": lambda folder: file(folder) / "x",
    }
    unwritable = []
    for name, place in places.items():

        def run(folder: Path, around: Surroundings, place: Callable[[Path], object] = place) -> Sequence[object]:
            return into(folder, around, place(folder))

        def export(folder: Path, around: Surroundings, place: Callable[[Path], object] = place) -> Sequence[object]:
            return ["export", around.records, "--out", place(folder)]

        def site(folder: Path, around: Surroundings, place: Callable[[Path], object] = place) -> Sequence[object]:
            return ["leaderboard", "build", "--results", around.records, "--out", place(folder)]

        def table(folder: Path, around: Surroundings, place: Callable[[Path], object] = place) -> Sequence[object]:
            return ["table", around.records, "--format", "csv", "--output", f"{place(folder)}/x"]

        unwritable += [
            _case(f"results in {name}", run),
            _case(f"an export to {name}", export),
            _case(f"a board in {name}", site),
            _case(f"a table in {name}", table),
        ]
    return [
        *unwritable,
        _case("results of nobody", lambda folder, around: into(folder, around, "~no-such-user/x"), "there is no user"),
        _case("results in a name that is not UTF-8", lambda f, around: into(f, around, f / BYTE), codes=DONE),
        _case(
            "a board in a name that is not UTF-8",
            lambda folder, around: ["leaderboard", "build", "--results", around.records, "--out", folder / BYTE],
            codes=DONE,
        ),
    ]


def _reading() -> list[Case]:
    """Records that the reading commands are told to choose."""

    def reads(name: str, *words: str, codes: frozenset[int] = REFUSED) -> Case:
        return _case(name, lambda folder, around: [words[0], around.records, *words[1:]], codes=codes)

    def compares(name: str, *words: str) -> Case:
        return _case(name, lambda folder, around: ["compare", *words, "--results", around.records])

    def named(name: str, *words: object) -> Case:
        return _case(name, lambda folder, around: words)

    return [
        reads("a seed of 5,000 digits in a table", "table", "--seed", DIGITS),
        reads("a task of brackets in a table", "table", "--task", "[" * 1000),
        reads("stars in a table", "table", "--sae", "*" * 300, codes=DONE),
        reads("a metric that is not UTF-8 in a table", "table", "--metric", BYTE),
        reads("a pivot of nothing", "table", "--pivot", "/"),
        reads("a pivot of slashes", "table", "--pivot", "/" * 5000),
        reads("a pivot of 5,000 letters", "table", "--pivot", LONG),
        reads("an organization with a path", "export", "--out", "out", "--organization", "../../x", codes=DOCUMENTED),
        reads("an organization that is not UTF-8", "export", "--out", "out", "--organization", BYTE, codes=DOCUMENTED),
        reads("an organization of 5,000 letters", "export", "--out", "out", "--organization", LONG, codes=DOCUMENTED),
        reads("a comparison of a folder with a number", "compare", DIGITS),
        compares("a comparison of nothing", "", ""),
        compares("a comparison of stars", "*", "**"),
        compares("a comparison of what is not UTF-8", BYTE, BYTE),
        compares("a comparison with a seed of 5,000 digits", "a", "b", "--seed", DIGITS),
        named("a table of what is missing", "table", "missing"),
        named("a table of a device", "table", "/dev/zero"),
        named("a table of a name that is too long", "table", LONG),
        named("a table of a name that is not UTF-8", "table", BYTE),
        named("a check of a name that is too long", "submit", LONG),
        named("a check of a device", "submit", "/dev/null"),
        named("a board that is too long", "leaderboard", "build", "--board", LONG),
        named("a board with a name that is not UTF-8", "leaderboard", "build", "--board", BYTE),
        named("a board that is a device", "leaderboard", "build", "--board", "/dev/zero.yaml"),
    ]


def _words() -> list[Case]:
    """Other commands, and words that are no commands."""

    def named(name: str, *words: str, codes: frozenset[int] = REFUSED) -> Case:
        return _case(name, lambda folder, around: words, codes=codes)

    return [
        named("a command that does not exist", "runn"),
        named("a command of 5,000 letters", LONG),
        named("a command that is not UTF-8", BYTE),
        named("a command of nothing", ""),
        named("two dashes", "--"),
        named("a task that is not UTF-8", "tasks", BYTE),
        named("a task that is a path", "tasks", "../tasks/core"),
        named("a release that is not UTF-8", "saes", "--sae-lens", BYTE),
        named("a release of brackets", "saes", "--sae-lens", "[" * 5000),
        named("an asset that is not UTF-8", "assets", "path", BYTE),
        named("an asset that is a path", "assets", "path", "../../etc"),
        named("an asset of 5,000 letters", "assets", "verify", LONG),
        named("an asset and all assets", "assets", "pull", "--all", "gemma-3-270m"),
        named("an SAE that is not UTF-8", "check-adapter", BYTE),
        named("an SAE that is too long", "check-adapter", f"sae_lens:{'a/' * 5000}", codes=DOCUMENTED),
        named("a check with a text alone", "check-adapter", "baseline:neurons", "--text", "jsonl:x"),
        named("a check with code of no model", "check-adapter", "baseline:neurons", "--trust-remote-code"),
        named("a check at a hook that is none", "check-adapter", "baseline:neurons", "--hook", "blocks.1.x"),
        named("a port below zero", "leaderboard", "serve", "--port", "-1"),
        named("a port of 5,000 digits", "leaderboard", "serve", "--port", DIGITS),
        named("a site that is missing", "leaderboard", "serve", LONG),
    ]
