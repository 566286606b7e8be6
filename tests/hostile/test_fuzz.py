"""Properties of references, YAML documents and command lines: only documented errors leave the program.

The examples are those of the fuzzer, drawn by Hypothesis, so that a failure shrinks. ``make soak`` tries many more.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saebench.errors import UsageError
from tests.hostile import fuzz, fuzz_commands, fuzz_documents, fuzz_references
from tests.hostile.folder import working_folder, write_records

some = settings(max_examples=300, suppress_health_check=list(HealthCheck))
randoms = st.randoms(use_true_random=False)


@pytest.fixture(scope="module", autouse=True)
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with working_folder(tmp_path_factory.mktemp("fuzz")), fuzz_commands.doors_shut(), fuzz_documents.cards_trusted():
        write_records(Path("saebench-results"))
        yield


def check(example: Callable[[random.Random], fuzz.Example], draw: random.Random) -> None:
    outcome = fuzz.Outcome()
    fuzz.try_one(*example(draw), outcome)
    assert not outcome.failures, outcome.report()


@some
@given(randoms)
def test_references(draw: random.Random) -> None:
    check(fuzz_references.example, draw)


@some
@given(randoms)
def test_documents(draw: random.Random) -> None:
    check(fuzz_documents.example, draw)


@some
@given(randoms)
def test_command_lines(draw: random.Random) -> None:
    check(fuzz_commands.example, draw)


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: _raise(KeyError("x")), "KeyError"),
        (lambda: _raise(SystemExit(3)), "SystemExit"),
        (lambda: _raise(RecursionError()), "RecursionError"),
        (lambda: _raise(UsageError(" ")), "The message is empty"),
        (lambda: _raise(UsageError("x" * 10**5)), "The message has 100000 characters"),
        (lambda: fuzz_commands._run(["tasks", "core", "--broken"]), ""),
    ],
)
def test_the_fuzzer_sees_what_is_wrong(call: Callable[[], object], kind: str) -> None:
    outcome = fuzz.Outcome()
    fuzz.try_one("a call", "input", call, outcome)
    assert (outcome.examples, len(outcome.failures)) == (1, bool(kind))
    assert kind in outcome.report()


def test_the_fuzzer_sees_a_wrong_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saebench.cli.tasks._list", lambda: 1 / 0)
    outcome = fuzz.Outcome()
    fuzz.try_one("saebench tasks", [], lambda: fuzz_commands._run(["tasks"]), outcome)
    [failure] = outcome.failures
    assert "exit code 70" in failure.traceback
    assert "ZeroDivisionError" in failure.traceback


def test_every_command_and_option_is_tried() -> None:
    """Whatever is added to the command line is fuzzed, because the examples come from the commands themselves."""
    tried: set[tuple[str, ...]] = set()
    options: set[str] = set()
    for number in range(4000):
        words = fuzz_commands.command_line(random.Random(number))
        tried |= {tuple(words[:length]) for length in (0, 1, 2)}
        options |= {word.partition("=")[0] for word in words if word.startswith("--")}
    for path, command in fuzz_commands.commands():
        assert path in tried, path
        for parameter in command.params:
            long = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
            assert options.issuperset(long), (path, long)


def test_the_same_seed_gives_the_same_examples() -> None:
    first = [fuzz_references.example(random.Random(seed))[1] for seed in range(100)]
    assert first == [fuzz_references.example(random.Random(seed))[1] for seed in range(100)]
    assert len(set(first)) > 90


def _for_ever() -> None:
    while True:
        pass


@pytest.mark.parametrize(("call", "limit"), [(_for_ever, "SECONDS"), (signal.pause, "WAITING")])
def test_the_fuzzer_ends_what_hangs(call: Callable[[], object], limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, limit, 1)
    outcome = fuzz.Outcome()
    fuzz.try_one("a call", "input", call, outcome)
    assert "no end in 1 s" in outcome.report()
