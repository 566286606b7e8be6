"""``saebench cache``, and the cache's line of ``saebench doctor``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.conftest import Invoke


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def three_series(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A cache of three series and 1.5 GB; gives the folders that were cleared."""
    cleared: list[Path] = []

    def usage(folder: Path) -> tuple[int, int]:
        assert folder == home / "activations"
        return (0, 0) if cleared else (3, 1_500_000_000)

    def clear(folder: Path) -> int:
        size = usage(folder)[1]
        cleared.append(folder)
        return size

    tensors = ModuleType("saebench.cache.tensors")
    tensors.usage, tensors.clear = usage, clear
    monkeypatch.setitem(sys.modules, "saebench.cache.tensors", tensors)
    return cleared


def test_info(invoke: Invoke, home: Path, three_series: list[Path]):
    assert invoke("cache", "info").stdout == f"folder  {home / 'activations'}\nseries  3\nsize    1.5 GB\n"
    assert three_series == []


def test_clear_says_how_much(invoke: Invoke, home: Path, three_series: list[Path]):
    assert invoke("cache", "clear").stdout == f"freed 1.5 GB in {home / 'activations'}\n"
    assert three_series == [home / "activations"]
    assert "series  0" in invoke("cache", "info").stdout


def test_doctor(invoke: Invoke, three_series: list[Path]):
    line = "activations that runs share: 3 series, 1.5 GB; `saebench cache clear` removes them"
    assert f"  {line}\n" in invoke("doctor").stdout


def test_nothing_there(invoke: Invoke, home: Path):
    info = invoke("cache", "info")
    assert info.exit_code == 0, info.output
    assert "series  0\nsize    0 B\n" in info.stdout
    assert invoke("cache", "clear").stdout == f"freed 0 B in {home / 'activations'}\n"
    assert not (home / "activations").exists()


@pytest.mark.parametrize("command", ["info", "clear"])
def test_help_teaches(invoke: Invoke, command: str):
    assert "Exit code: 0." in invoke("cache", command, "--help").stdout
