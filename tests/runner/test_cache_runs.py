"""Runs that share a cache, or have none: whatever lies there, the records are those of a lone run, bit for bit."""

from __future__ import annotations

import inspect
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saebench.lm.model import LanguageModel
from saebench.passes import captured
from saebench.results.record import Status
from saebench.results.store import ResultStore
from saebench.runner.execute import RunSummary
from tests.conftest import WIDTH
from tests.runner.conftest import Inputs, Run, numbers, save_topk, write_text

INSIDE, EARLY = "blocks.1.hook_mlp_out", "blocks.0.hook_resid_post"
# Two sequences in a shard, so that a run has several; `die` ends the process before its n-th pass of the model.


def meet(folder: Path) -> None:
    """Wait until two processes are here."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 100
    while len(list(folder.iterdir())) < 2:
        if time.monotonic() > deadline:
            raise SystemExit("the other process did not come")  # a mere error would be a failed record
        time.sleep(0.01)


SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import saebench
from saebench.lm.model import LanguageModel
from saebench.progress import NullProgress
from saebench.passes import captured
options, tokens, die, meeting = json.loads(sys.argv[1])
captured._SHARD_TOKENS["cpu"] = tokens
real, done = LanguageModel.capture, 0

MEET

def capture(self, *arguments):
    global done
    if meeting:
        meet(Path(meeting))
    if die == done:
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    return real(self, *arguments)

LanguageModel.capture = capture
saebench.run(progress=NullProgress(), **options)
""".replace("MEET", inspect.getsource(meet))
SHARD_TOKENS = 2 * 16
SHARD_BYTES = SHARD_TOKENS * WIDTH * 4


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and shards of two sequences."""
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(captured._SHARD_TOKENS, "cpu", SHARD_TOKENS)
    return tmp_path / "home"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which passes of the model over the text were run, in order; probes of the width of a hook are left out."""
    seen: list[str] = []
    for name in ("capture", "prefix", "suffix"):

        def spy(self: Any, tokens: Any, *rest: Any, name: str = name, real: Any = getattr(LanguageModel, name)) -> Any:
            if tokens.shape[1] == 16:
                seen.append(name)
            return real(self, tokens, *rest)

        monkeypatch.setattr(LanguageModel, name, spy)
    return seen


@pytest.fixture
def saes(inputs: Inputs, tmp_path: Path) -> list[str]:
    """At two known sites, one of them inside a block, and at one that only loading tells."""
    inside = save_topk(tmp_path / "inside", 5, INSIDE)
    return [inputs.topk(0), f"sae_lens:{inside}", inputs.factory("tiny", hook=EARLY), inputs.topk(1)]


def same(one: RunSummary, other: RunSummary) -> None:
    """Records, measurements with their intervals, and arrays, whatever the order of the SAEs."""
    assert numbers(one.records) == numbers(other.records)
    stores = [ResultStore(summary.out) for summary in (one, other)]
    by_id = {record.record_id: record for record in other.records}
    for record in one.records:
        ours, theirs = stores[0].arrays(record), stores[1].arrays(by_id[record.record_id])
        assert ours.keys() == theirs.keys()
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def process(inputs: Inputs, saes: list[str], out: Path, die: int = -1, meeting: str = "") -> subprocess.Popen[bytes]:
    options = {**inputs.options, "sae": saes, "out": str(out)}
    arguments = json.dumps([options, SHARD_TOKENS, die, meeting])
    return subprocess.Popen([sys.executable, "-c", SCRIPT, arguments], env=dict(os.environ), stderr=subprocess.PIPE)


Lone = Callable[..., RunSummary]


@pytest.fixture
def lone(run: Run, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Lone:
    """The run that shares nothing: no disk, and no memory beyond one shard."""

    def call(*saes: str, **options: Any) -> RunSummary:
        with monkeypatch.context() as patch:
            patch.setattr("saebench.budget.Budget.resident", 0)
            return run(*saes, **{"out": tmp_path / "lone", "cache_budget": 0, **options})

    return call


def test_warm_cold_or_none_and_in_any_order(
    run: Run, lone: Lone, saes: list[str], tmp_path: Path, passes: list[str], home: Path
):
    alone = [lone(sae) for sae in saes]
    assert not home.exists()
    passes.clear()
    cold = run(*saes, out=tmp_path / "cold")
    assert [passes.count(name) for name in ("capture", "prefix")] == [2, 2]  # the unknown site comes later
    passes.clear()
    warm = run(*reversed(saes), out=tmp_path / "warm")
    assert set(passes) == {"suffix"}
    assert len(passes) == len(saes) * 2  # a splice of two shards each
    same(cold, warm)
    numbered = numbers(cold.records)
    for summary in alone:
        assert numbers(summary.records).items() <= numbered.items()


def test_a_site_inside_a_block_is_captured_with_the_rest(run: Run, saes: list[str], passes: list[str]):
    run(*saes[:2])
    assert [passes.count(name) for name in ("capture", "prefix")] == [2, 0]


def test_two_processes_at_once(
    run: Run,
    lone: Lone,
    inputs: Inputs,
    saes: list[str],
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    alone = lone(*saes)
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    other = process(inputs, saes, tmp_path / "other", meeting=str(meeting))
    real = LanguageModel.capture

    def capture(self: Any, *arguments: Any) -> Any:
        meet(meeting)
        return real(self, *arguments)

    monkeypatch.setattr(LanguageModel, "capture", capture)
    here = run(*saes, out=tmp_path / "here")
    _, stderr = other.communicate(timeout=120)
    assert other.returncode == 0, stderr.decode()
    assert b"damaged" not in stderr
    same(here, alone)
    assert numbers(ResultStore(tmp_path / "other")) == numbers(alone.records)
    assert not list(home.rglob(".tmp-*"))
    files = [path.name.rpartition("-")[0] + path.parent.name for path in home.rglob("*.safetensors")]
    assert len(files) == len(set(files)) > 0  # the same bits have the same name


def test_killed_in_the_middle_of_the_clean_pass(
    run: Run, lone: Lone, inputs: Inputs, saes: list[str], tmp_path: Path, passes: list[str], home: Path
):
    killed = process(inputs, saes, tmp_path / "results", die=1)
    _, stderr = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, stderr.decode()
    assert {path.name[:17] for path in home.rglob("*.safetensors")} == {"00000000-00000002"}
    passes.clear()
    resumed = run(*saes, out=tmp_path / "results")
    assert passes.count("capture") == 1  # of two shards
    same(resumed, lone(*saes))


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("trouble", ["no budget", "small budget", "a file", "a loop", "full", "full after a while"])
def test_a_cache_that_cannot_help(
    run: Run, lone: Lone, saes: list[str], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
):
    expected = lone(*saes)
    options: dict[str, Any] = {"out": tmp_path / "troubled"}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if trouble == "no budget":
        options["cache_budget"] = 0
    elif trouble == "small budget":
        options["cache_budget"] = 3 * SHARD_BYTES
    elif trouble == "a file":
        home.write_text("mine")
    elif trouble == "a loop":
        home.mkdir()
        (home / "activations").symlink_to(home / "activations")
    elif trouble == "full":
        monkeypatch.setattr("saebench.cache.shards._write", refuse)
    else:  # ablations still fit, activations do not
        (home / "activations").mkdir(parents=True)
        real = captured.CapturedText._compute

        def tight(self: Any, *arguments: Any) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SHARD_BYTES // 2, limits[1]))
            try:
                real(self, *arguments)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        monkeypatch.setattr(captured.CapturedText, "_compute", tight)
    found = run(*saes, **options)
    assert found.count(Status.OK) == len(saes)
    same(found, expected)
    if trouble == "small budget":
        assert 0 < sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) <= options["cache_budget"]


@pytest.mark.parametrize("first", [True, False])
def test_a_layer_that_the_model_lacks_ends_no_other_sae(
    run: Run, lone: Lone, inputs: Inputs, tmp_path: Path, first: bool
):
    deep = f"sae_lens:{save_topk(tmp_path / 'deep', 0, 'blocks.77.hook_resid_post')}"
    unknown = inputs.factory("tiny", hook="blocks.78.hook_mlp_out")
    good = [inputs.topk(0), inputs.topk(1)]
    found = run(*([deep, unknown, *good] if first else [good[0], deep, unknown, good[1]]))
    status = {record.identity.sae: record.status for record in found.records}
    assert [status[sae] for sae in (deep, unknown, *good)] == [Status.FAILED] * 2 + [Status.OK] * 2
    kept = [record for record in found.records if record.status is Status.OK]
    assert numbers(kept) == numbers(lone(*good).records)


def test_seeds_in_one_cache(run: Run, lone: Lone, inputs: Inputs, tmp_path: Path):
    sae = inputs.topk(0)
    together = run(sae, seed=[0, 1, 2])
    again = run(sae, seed=[2, 1, 0], out=tmp_path / "again")
    assert numbers(together.records) == numbers(again.records)
    apart = [lone(sae, seed=[seed], out=tmp_path / f"lone-{seed}").records[0] for seed in (0, 1, 2)]
    assert numbers(apart) == numbers(together.records)


def test_dtypes_do_not_share(run: Run, lone: Lone, inputs: Inputs, tmp_path: Path, passes: list[str]):
    sae = inputs.topk(0)
    run(sae)
    passes.clear()
    other = run(sae, dtype="bfloat16", out=tmp_path / "bfloat16")
    assert "capture" in passes
    same(other, lone(sae, dtype="bfloat16"))


def test_another_text_of_the_same_name(run: Run, lone: Lone, inputs: Inputs, tmp_path: Path, passes: list[str]):
    sae, text = inputs.topk(0), write_text(tmp_path / "text.jsonl", seed=1)
    first = run(sae, text=text)
    write_text(tmp_path / "text.jsonl", seed=2)
    passes.clear()
    second = run(sae, text=text, out=tmp_path / "second")
    assert "capture" in passes
    same(second, lone(sae, text=text))
    assert numbers(first.records) != numbers(second.records)
