"""No text and no code of one SAE or task stops the others, or stays out of the records."""

from __future__ import annotations

import errno
import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from saebench.cards.registry import registry
from saebench.errors import SaebenchError, UsageError
from saebench.evaluation import SAETask, Settings, TaskOutput
from saebench.passes.context import TaskContext
from saebench.results.record import Measurement, Status
from saebench.results.store import ResultStore
from saebench.sae.protocol import SAE
from tests.group_tasks import card, register_tasks
from tests.runner.conftest import Inputs, Run, numbers, save_topk, write_text

CODE = """
import sys
from saebench.sae.base import BaseAdapter
from saebench.sae.hook import HookSite

HALF = "\\ud83d"

class Leaving(BaseException):
    pass

class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no text")

class Odd(BaseAdapter):
    def __init__(self, does):
        name, architecture = ("tiny" + HALF * (does == part) for part in ("name", "architecture"))
        hook = "blocks.1.hook_resid_post" + HALF * (does == "hook")
        model_name = HALF if does == "model" else None
        super().__init__(name=name, architecture=architecture, hook=HookSite.at(hook), d_in=32, d_sae=32,
                         model_name=model_name)
        self.does, self.encoded = does, False

    def fingerprint(self):
        return {"fingerprint": HALF, "binary": b"f"}.get(self.does, "f" * 64)

    def encode(self, x):
        self.encoded = True
        if self.does == "error":
            raise ValueError("the file " + HALF + " is broken")
        if self.does == "long error":
            raise ValueError("x" * 10**6)
        if self.does == "silent":
            raise Silent
        if self.does == "exit":
            sys.exit(3)
        if self.does == "leave":
            raise Leaving
        if self.does == "vanish":
            raise ValueError("gone")
        return x

    def decode(self, z, x=None):
        return z

    @property
    def d_sae(self):
        if getattr(self, "encoded", False) and self.does == "vanish":
            raise RuntimeError("no width any more")
        return 32

    @d_sae.setter
    def d_sae(self, value):
        pass

def odd(does):
    if does == "loading":
        raise ValueError(HALF)
    if does == "loading leaves":
        raise Leaving
    return Odd(does)
"""

DOES = {
    "name": "surrogate",
    "architecture": "surrogate",
    "hook": r"\ud83d",
    "model": "surrogate",
    "fingerprint": "fingerprint() must give a text",
    "binary": "fingerprint() must give a text",
    "error": r"ValueError: the file \ud83d is broken",
    "long error": "ValueError: xxx",
    "silent": "encode failed with Silent",
    "exit": "its code ended the program (exit status 3)",
    "leave": "its code ended the program (Leaving)",
    "vanish": "no width any more",
    "loading": r"\ud83d",
    "loading leaves": "its code ended the program (Leaving)",
}


@pytest.fixture
def odd(tmp_path: Path) -> Callable[[str], str]:
    (tmp_path / "odd.py").write_text(textwrap.dedent(CODE), "utf-8")
    return lambda does: f"python:{tmp_path / 'odd.py'}:odd?does={does.replace(' ', '%20')}"


def test_what_no_record_can_hold_becomes_a_failed_record_with_clean_text(
    run: Run, inputs: Inputs, odd: Callable[[str], str]
) -> None:
    saes = [*map(odd, DOES), inputs.topk(0)]
    summary = run(*saes)
    assert [record.identity.sae for record in summary.records] == saes
    for (does, message), record in zip(DOES.items(), summary.records, strict=False):
        assert record.status is Status.FAILED, does
        assert message in record.error, (does, record.error)
        assert len(record.error) < 3000
        record.model_dump_json().encode()
    assert summary.records[-1].status is Status.OK
    assert numbers(list(ResultStore(summary.out))) == numbers(summary.records)


def test_half_a_surrogate_pair_in_the_settings_of_a_folder(run: Run, inputs: Inputs, tmp_path: Path) -> None:
    folder = save_topk(tmp_path / "sae")
    config = (folder / "cfg.json").read_text()
    (folder / "cfg.json").write_text(config.replace('"tiny"', '"\\ud83d"'))
    summary = run(f"sae_lens:{folder}", inputs.topk(0))
    assert [record.status for record in summary.records] == [Status.FAILED, Status.OK]
    summary.records[0].error.encode()
    assert len(list(ResultStore(summary.out))) == 2


def test_a_folder_whose_name_is_not_utf_8_is_refused_before_anything_runs(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"sae-\xff")
    with pytest.raises(UsageError, match=r"sae-\\udcff' holds a byte that is not UTF-8.*rename"):
        run(f"sae_lens:{folder}")


# --- tasks


class Unsteady(SAETask[Settings]):
    """A plug-in that raises and gives what its attributes hold."""

    name: ClassVar[str] = "unsteady"
    settings = Settings
    card_path: ClassVar[str] = ""
    prepared: ClassVar[Any] = None
    reads: ClassVar[Any] = None
    measured: ClassVar[Any] = None
    output: ClassVar[dict[str, Any]] = {}

    def prepare(self, context: TaskContext, settings: Settings) -> None:
        if self.prepared is not None:
            raise self.prepared

    def data(self, context: TaskContext, settings: Settings) -> Any:
        return self.reads if self.reads is not None else {"csv:labels.csv": "11"}

    def run(self, sae: SAE, context: TaskContext, settings: Settings) -> TaskOutput:
        if self.measured is not None:
            raise self.measured
        return TaskOutput([Measurement(metric="width", value=sae.d_sae, n=1, unit="SAE")], **self.output)


@pytest.fixture
def unsteady(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Unsteady]]:
    with monkeypatch.context() as patch:
        register_tasks(patch, tmp_path, {Unsteady: card("unsteady", "sae", ["width"])})
        yield Unsteady
    registry.cache_clear()


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("prepared", ValueError("a b\ud83d"), r"unsteady: ValueError: a b\ud83d"),
        ("prepared", OverflowError("too large"), "unsteady: OverflowError: too large"),
        ("prepared", SystemExit(4), "its code ended the program (exit status 4)"),
        ("reads", {"text": b"hash"}, "data() must give texts by their references"),
        ("reads", {"text": "\ud83d"}, "data() must give texts by their references"),
        ("reads", ["text"], "data() must give texts by their references"),
    ],
    ids=range(6),
)
def test_a_task_whose_inputs_break_is_left_out(
    run: Run,
    inputs: Inputs,
    unsteady: type[Unsteady],
    monkeypatch: pytest.MonkeyPatch,
    attribute: str,
    value: object,
    message: str,
) -> None:
    monkeypatch.setattr(Unsteady, attribute, value)
    summary = run(inputs.topk(0), tasks=["unsteady", "core"])
    assert [record.status for record in summary.records] == [Status.FAILED, Status.OK]
    assert message in summary.records[0].error
    assert len(list(ResultStore(summary.out))) == 2
    with pytest.raises(SaebenchError, match="unsteady"):
        run(inputs.topk(0), tasks=["unsteady"], parameters={})


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Leaving(BaseException):
    pass


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("measured", ValueError("a\x1b b\ud83d"), r"b\ud83d"),
        ("measured", ValueError("x" * 10**6), "ValueError: xxx"),
        ("measured", Silent(), "Silent: (its text cannot be shown)"),
        ("measured", SystemExit(3), "its code ended the program (exit status 3)"),
        ("measured", Leaving(), "its code ended the program (Leaving)"),
        ("output", {"notes": {"text": "\ud83d"}}, "surrogates not allowed"),
        ("output", {"notes": {"text": object()}}, "object"),
    ],
    ids=range(7),
)
def test_what_a_task_raises_or_gives_stays_its_own_failure(
    run: Run,
    inputs: Inputs,
    unsteady: type[Unsteady],
    monkeypatch: pytest.MonkeyPatch,
    attribute: str,
    value: object,
    message: str,
) -> None:
    monkeypatch.setattr(Unsteady, attribute, value)
    summary = run(inputs.topk(0), tasks=["unsteady", "core"])
    assert [record.status for record in summary.records] == [Status.FAILED, Status.OK]
    assert message in summary.records[0].error
    assert len(summary.records[0].error) < 3000
    stored = {record.record_id: record.error for record in ResultStore(summary.out)}
    assert stored == {record.record_id: record.error for record in summary.records}


# --- the folder of results, and rows that give way


def test_a_disk_that_cannot_be_read_ends_the_run_in_one_sentence(
    run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(self: ResultStore, identity: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(ResultStore, "find", stale)
    with pytest.raises(SaebenchError, match=r"Cannot read the results in .*Stale file handle"):
        run(inputs.topk(0))


def test_the_failure_of_a_control_gives_way_when_the_text_is_repaired(run: Run, inputs: Inputs, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.jsonl", n=5)
    first = run("baseline:pca?k=2", inputs.topk(0), text=text)
    assert [record.status for record in first.records] == [Status.FAILED, Status.OK]
    write_text(tmp_path / "text.jsonl", n=60)
    second = run("baseline:pca?k=2", text=text)
    assert [record.status for record in second.records] == [Status.OK]
    stored = [(record.identity.sae, record.status) for record in ResultStore(second.out)]
    assert ("baseline:pca?k=2", Status.FAILED) not in stored


def test_a_control_that_fails_this_time_leaves_its_numbers(
    run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("baseline:neurons", inputs.topk(0))

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("bad luck")

    monkeypatch.setattr("saebench.sae.baselines.NeuronBaseline", fail)
    second = run("baseline:neurons", overwrite="always")
    assert "bad luck" in second.records[0].error
    assert "The ok record of an earlier run is kept." in second.records[0].error
    assert [record.status for record in ResultStore(first.out)] == [Status.OK, Status.OK]
