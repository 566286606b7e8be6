"""``saebench run`` when others remove its results, and the readers when a run was killed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from saebench.api import run
from saebench.progress import NullProgress
from saebench.tasks.core.task import CoreTask
from tests.cli.conftest import Inputs, Invoke, save_sae


@pytest.fixture
def other(tmp_path: Path) -> str:
    return f"sae_lens:{save_sae(tmp_path / 'other')}"


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of results, which disappears while the second SAE is measured."""
    real, seen, out = CoreTask.run, [], tmp_path / "results"

    def measure(self: CoreTask, *arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == 2:
            shutil.rmtree(out)
        return real(self, *arguments)

    monkeypatch.setattr(CoreTask, "run", measure)
    return out


def test_lost_records_are_named(invoke: Invoke, inputs: Inputs, other: str, removed: Path):
    saes = ("--sae", inputs.good, "--sae", other)
    result = invoke("run", *inputs.arguments, *saes, "--out", removed)
    assert result.exit_code == 1, result.output
    lost = result.stdout.partition(f"lost, because somebody removed them from {removed} during the run:\n")[2]
    assert lost.splitlines() == [f"  {inputs.good} (core)", "the same command makes them again"]
    again = invoke("run", *inputs.arguments, *saes, "--out", removed)
    assert again.exit_code == 0, again.output
    assert "2 records (2 ok, 0 failed, 0 not applicable), 1 new" in again.stdout
    assert "lost, because" not in again.stdout


def test_python_is_warned(inputs: Inputs, other: str, removed: Path):
    options = {"tasks": ["core"], "model": inputs.model, "text": inputs.text, "preset": "smoke", "device": "cpu"}
    with pytest.warns(UserWarning, match="1 records are not in .* any more"):
        frame = run([inputs.good, other], out=removed, progress=NullProgress(), **options)
    assert set(frame["status"]) == {"ok"}


def test_submit_only_mentions_what_a_killed_run_left(invoke: Invoke, inputs: Inputs, tmp_path: Path):
    left = tmp_path / f".tmp-{'0' * 32}"
    left.write_bytes(b"half")
    result = invoke("submit", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{left.name}\n  warning: was left by a process that was killed")
