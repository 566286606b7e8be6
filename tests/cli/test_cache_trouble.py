"""``saebench cache`` on a folder that the machine refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    return tmp_path / "activations"


def told(invoke: Invoke, command: str, *parts: str) -> None:
    """One sentence, no traceback."""
    result = invoke("cache", command)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert "cannot be used" in result.output
    assert "SAEBENCH_HOME" in result.output
    assert all(part in result.output for part in parts)


@pytest.mark.parametrize("command", ["info", "clear"])
def test_a_link_that_leads_to_itself(invoke: Invoke, folder: Path, command: str):
    folder.symlink_to(folder)
    told(invoke, command, str(folder), os.strerror(errno.ELOOP))


@pytest.mark.parametrize("command", ["info", "clear"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_read(
    invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int
):
    folder.mkdir()
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) == folder:
            raise OSError(code, os.strerror(code), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    told(invoke, command, str(folder), os.strerror(code))


def test_a_shard_that_cannot_be_deleted(invoke: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch):
    shard = folder / ("0" * 64) / f"00000000-00000001-{'0' * 32}.safetensors"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"x")

    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "unlink", unlink)
    told(invoke, "clear", str(shard), os.strerror(errno.EROFS))
