"""Interrupted or killed: no work is lost, and the numbers are those of an unbroken run.

tests/soak kills many runs, and lets many of them share a folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from saebench.results.record import Status
from saebench.results.store import ResultStore
from saebench.runner import execute as execute_module
from saebench.tasks.core.task import CoreTask
from tests.runner.conftest import Inputs, Run, numbers

SCRIPT = """
import json, sys
import torch
torch.set_num_threads(1)
import saebench
from saebench.progress import NullProgress
saebench.run(progress=NullProgress(), **json.loads(sys.argv[1]))
"""


def start(inputs: Inputs, saes: list[str], out: Path) -> subprocess.Popen[bytes]:
    """The same request in a process of its own."""
    options = {**inputs.options, "sae": saes, "out": str(out)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(options)], env=dict(os.environ), stderr=subprocess.PIPE
    )


def test_killed_and_run_again(run: Run, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deadly = inputs.factory("once", does="kill", marker=tmp_path / "marker")
    saes = [inputs.topk(0), "baseline:pca?k=3", deadly, inputs.topk(1)]
    broken = tmp_path / "broken"
    process = start(inputs, saes, broken)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, stderr.decode()
    assert set(numbers(ResultStore(broken))) == {(sae, 0) for sae in saes[:2]}
    half = {path: path.stat().st_mtime_ns for path in broken.rglob("*") if path.is_file()}
    assert sorted(path.suffix for path in half) == [".json", ".json", ".npz", ".npz"]

    resumed = run(*saes, out=broken)
    assert (resumed.new, resumed.count(Status.OK)) == (2, 4)
    assert {path: path.stat().st_mtime_ns for path in half} == half

    unbroken = run(*saes, out=tmp_path / "unbroken")  # the deadly one behaves now
    assert unbroken.new == 4
    # Bit for bit, although one half was made by another process.
    assert numbers(resumed.records) == numbers(unbroken.records) == numbers(ResultStore(broken))
    for one, other in zip(resumed.records, unbroken.records, strict=True):
        arrays = [ResultStore(s.out).arrays(r) for s, r in ((resumed, one), (unbroken, other))]
        assert arrays[0].keys() == arrays[1].keys()
        assert all(arrays[0][key].tobytes() == arrays[1][key].tobytes() for key in arrays[0])

    monkeypatch.setattr(CoreTask, "run", _never)
    assert run(*saes, out=broken).new == 0


def _never(*_: Any) -> Any:
    raise AssertionError("nothing is left to do")


def test_ctrl_c_keeps_what_is_done(run: Run, inputs: Inputs, tmp_path: Path):
    pressed = inputs.factory("once", does="interrupt", marker=tmp_path / "marker")
    saes = [inputs.topk(0), pressed, inputs.topk(1)]
    first = run(*saes)
    assert first.interrupted
    assert [r.identity.sae for r in first.records] == saes[:1]
    assert set(numbers(ResultStore(first.out))) == {(saes[0], 0)}
    assert not list(first.out.rglob(".tmp-*"))
    second = run(*saes)
    assert not second.interrupted
    assert (second.new, second.count(Status.OK)) == (2, 3)


def test_ctrl_c_while_the_model_loads(run: Run, inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    def pressed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute_module, "load_lm", pressed)
    summary = run(inputs.topk(0))
    assert summary.interrupted
    assert summary.records == []


def test_a_damaged_record_is_made_again(run: Run, inputs: Inputs):
    first = run(inputs.topk(0))
    [path] = first.out.rglob("*.json")
    path.write_text(path.read_text()[:-40])
    with pytest.warns(UserWarning, match="Leaving out"):
        second = run(inputs.topk(0))
    assert second.new == 1
    assert numbers(ResultStore(first.out)) == numbers(first.records)


def test_more_saes_and_seeds_run_only_what_is_missing(run: Run, inputs: Inputs):
    run(inputs.topk(0))
    more = run(inputs.topk(0), inputs.topk(1), seed=[0, 1])
    assert (len(more.records), more.new) == (4, 3)
