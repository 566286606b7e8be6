"""Random command lines from the commands, arguments and options that there are, run in this process.

Whatever would take long, use the network or run somebody's code is replaced by a refusal: see `doors_shut`.
"""

from __future__ import annotations

import os
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import pytest
from click.testing import CliRunner

from saebench.cli.main import cli
from saebench.errors import SaebenchError
from tests.hostile.case import DOCUMENTED
from tests.hostile.draw import mutated, odd
from tests.hostile.fuzz_references import GROUPS, MODELS, PIVOTS, SAES, SITES, SIZES, TEXTS

_FILES = ("run.yaml", "board.yaml", "text.jsonl", "file", "pipe", "link-to-itself", "missing", "code.py")
_FOLDERS = (".", "saebench-results", "good", "model", "missing/deep", "\udcff-folder", "/dev/null", "/proc/nothing")
PATHS = (*_FILES, *_FOLDERS, "run.yaml/below", "~nouser/x", "out")
_TASKS = ("core", "core,dark_matter", "seed_stability", "")
# Good values by the name of the option or argument; the others take any of all these.
_VALUES: dict[str, tuple[str, ...]] = {
    "sae": SAES,
    "ref": SAES,
    "a": SAES,
    "b": SAES,
    "sae_group": GROUPS,
    "model": MODELS,
    "text": TEXTS,
    "hook": SITES,
    "tasks": _TASKS,
    "task": _TASKS,
    "preset": ("smoke", "paper"),
    "suite": ("smoke", "quick"),
    "memory_budget": SIZES,
    "cache_budget": SIZES,
    "device": ("cpu", "auto", "cuda:99", "mps", "meta"),
    "pivot": PIVOTS,
    "metric": ("fvu", "l0", "f*", "["),
    "status": ("ok", "failed"),
    "name": ("board.yaml", "embedded", "core"),
    "names": ("gemma-3-270m", "sae-probes"),
}
_ANY = tuple(dict.fromkeys(value for values in _VALUES.values() for value in values)) + PATHS


class Closed(SaebenchError):
    """The door to long work, which the fuzzer does not open."""


class Refused(SaebenchError):
    """A command that ended with the exit code 1 or 2, and what it said."""


@contextmanager
def doors_shut() -> Iterator[None]:
    """Refuse, while the block runs, to load models and SAEs, to fetch, to serve, to draw and to start processes."""
    import saebench.audit.workers
    import saebench.harness
    import saebench.leaderboard.site.serve
    import saebench.lm.load
    import saebench.results.compare_plot
    import saebench.runner.execute  # noqa: F401

    def refuse(*args: object, **kwargs: object) -> None:
        raise Closed("This would take long.")

    with pytest.MonkeyPatch.context() as patch:
        for place in (
            "saebench.runner.execute.execute",
            "saebench.audit.planted.written",
            "saebench.audit.workers.written",
            "saebench.audit.workers.ProcessPoolExecutor",  # no door is shut in another process
            "saebench.lm.load.load_lm",
            "saebench.sae.reference.load_sae",
            "saebench.data.assets.pull",
            "saebench.leaderboard.site.serve.make_server",
            "saebench.harness.register",
            "webbrowser.open",
        ):
            patch.setattr(place, refuse)
        patch.setattr("saebench.cli.doctor.subprocess", types.SimpleNamespace(run=refuse))
        yield


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that name it, groups included."""
    yield path, command
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from commands(one, (*path, name))


_ALL = list(commands())
# Commands with many options need more examples.
_WEIGHTS = [1 + 2 * len(command.params) for _, command in _ALL]


def _value(draw: random.Random, parameter: click.Parameter) -> str:
    kind = draw.random()
    if kind < 0.25:
        return odd(draw)
    if isinstance(parameter.type, click.Choice) and kind < 0.9:
        return str(draw.choice(list(parameter.type.choices)))
    if isinstance(parameter.type, click.types.IntParamType) and kind < 0.9:
        return draw.choice(("0", "1", "2", "7", "-1", "99999999999999999999", "1.5", "\uff11\uff12", "9" * 4301))
    good = PATHS if isinstance(parameter.type, click.Path) else _VALUES.get(str(parameter.name), _ANY)
    return draw.choice(good) if kind < 0.75 else mutated(draw, draw.choice(good), good)


def _option(draw: random.Random, parameter: click.Option) -> list[str]:
    name = draw.choice([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return [name] if draw.random() < 0.95 else [f"{name}={odd(draw)}"]
    given = _value(draw, parameter)
    return [name, given] if draw.random() < 0.7 else [f"{name}={given}"]


def command_line(draw: random.Random) -> list[str]:
    """Return the words after ``saebench``."""
    [(path, command)] = draw.choices(_ALL, _WEIGHTS)
    options = [one for one in command.params if isinstance(one, click.Option)]
    parts = [_option(draw, draw.choice(options)) for _ in range(draw.randrange(6)) if options]
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and draw.random() < 0.9:
            parts += [[_value(draw, parameter)] for _ in range(1 if parameter.nargs == 1 else draw.randrange(3))]
    draw.shuffle(parts)
    if path == ("run",) and draw.random() < 0.9:
        parts.insert(0, ["--dry-run"])
    words = [*path, *(word for part in parts for word in part)]
    if draw.random() < 0.1 and words:
        place = draw.randrange(len(words))
        words[place : place + draw.randrange(2)] = draw.choice(([], [odd(draw)], [words[place]] * 2, ["--"]))
    return [_word(word) for word in words]


def _word(word: str) -> str:
    """Return a word that an operating system can pass and that names nothing outside the working folder to write to."""
    word = word.replace("\0", "")[:100_000]
    # What no bytes give (half a pair that stands for no byte) becomes a question mark.
    word = "".join(letter if _is_text(letter) else "?" for letter in word)
    path = os.path.expanduser(word.partition("=")[2] if word.startswith("-") else word)
    outside = path.startswith("/") or os.path.normpath(path).startswith("..")
    return word if not outside or path in PATHS else word.replace("/", "_").replace("..", "__")


def _is_text(letter: str) -> bool:
    """Whether a word of a command line can hold this character: text, or what Python makes of a byte that is none."""
    return not "\ud800" <= letter <= "\udfff" or "\udc80" <= letter <= "\udcff"


def _run(words: list[str]) -> None:
    """Run a command line. Raises the error that ended it, or AssertionError for a wrong exit code or a traceback."""
    result = CliRunner().invoke(cli, words, prog_name="saebench")
    code = result.exit_code
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if code not in DOCUMENTED or "Traceback (most recent call last)" in result.output:
        raise AssertionError(f"exit code {code}\n{result.output[-3000:]}")
    if code != 0:  # a report of what failed may be long, a refusal may not
        raise Refused(result.output if code == 2 else f"exit code {code}")


def example(draw: random.Random) -> tuple[str, object, Callable[[], Any]]:
    """Return the name of the command, the words after ``saebench``, and the call."""
    words = command_line(draw)
    return f"saebench {words[0] if words else ''}", words, lambda: _run(words)
