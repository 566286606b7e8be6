"""The front door: help, version, speed, and what becomes of errors."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import warnings

import click
import pytest

import saebench
from saebench.cli.main import cli
from saebench.errors import ModelError
from tests.cli.conftest import Invoke

COMMANDS = ["assets", "audit", "cache", "check-adapter", "compare", "doctor", "export", "leaderboard", "lm-eval"]
COMMANDS += ["power", "prefetch", "run", "saes", "submit", "table", "tasks"]
HEAVY = {"torch", "transformers", "transformer_lens", "sae_lens", "pandas", "numpy", "sklearn", "pydantic"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["assets", "pull", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]):
    code = (
        "import json, sys\nfrom saebench.cli.main import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try: main()\nexcept SystemExit as end: print(json.dumps([end.code, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert not HEAVY & set(modules)


def test_python_m_saebench():
    done = subprocess.run([sys.executable, "-m", "saebench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"saebench, version {saebench.__version__}"


def test_commands(invoke: Invoke):
    assert sorted(cli.commands) == COMMANDS
    listing = invoke("--help").stdout
    assert all(f"\n  {command} " in listing for command in COMMANDS)
    assert "..." not in listing.split("Commands:")[1], "a short help is cut"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(invoke: Invoke, command: str):
    page = invoke(command, "--help").stdout
    assert "Exit code" in page or command in {"assets", "leaderboard"}
    assert "Example" in page or command == "doctor"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """``failing(error)``: the command `doctor` raises it."""

    def set_error(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(cli.commands["doctor"], "callback", fail)

    monkeypatch.delenv("SAEBENCH_DEBUG", raising=False)
    return set_error


def test_own_errors_are_one_sentence(invoke: Invoke, failing):
    failing(ModelError("The model is broken; fetch it again."))
    result = invoke("doctor")
    assert result.exit_code == 2
    assert result.stderr == "Error: The model is broken; fetch it again.\n"


def test_debugging_shows_where_they_come_from(invoke: Invoke, failing, monkeypatch: pytest.MonkeyPatch):
    failing(ModelError("The model is broken."))
    monkeypatch.setenv("SAEBENCH_DEBUG", "1")
    result = invoke("doctor")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("Error: The model is broken.\n")


def test_what_the_machine_refuses_is_no_bug(invoke: Invoke, failing):
    failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/disk"))
    result = invoke("doctor")
    assert result.exit_code == 2
    assert result.stderr == "Error: No space left on device: /full/disk.\n"


def test_bugs_are_called_bugs(invoke: Invoke, failing):
    failing(ZeroDivisionError("surprise"))
    result = invoke("doctor")
    assert result.exit_code == 70
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: surprise" in result.stderr
    assert "bug in saebench" in result.stderr


def test_interruption_anywhere(invoke: Invoke, failing):
    failing(KeyboardInterrupt())
    result = invoke("doctor")
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


def test_a_closed_pipe_is_silent():
    """`saebench table | head -1`: no traceback, no claim of a bug."""
    command = f"{sys.executable} -m saebench saes --sae-lens | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_unknown_command(invoke: Invoke):
    result = invoke("rum")
    assert result.exit_code == 2
    assert "rum" in result.stderr


@pytest.mark.skipif(bool(sys.warnoptions), reason="the user of python asks for warnings")
def test_warnings_of_saebench_are_lines_and_others_are_silent(invoke: Invoke, monkeypatch: pytest.MonkeyPatch):
    def warn() -> None:
        warnings.warn_explicit("a record is damaged", UserWarning, "store.py", 1, module="saebench.results.store")
        warnings.warn_explicit("old style", UserWarning, "x.py", 1, module="transformer_lens.x")

    monkeypatch.delenv("SAEBENCH_DEBUG", raising=False)
    monkeypatch.setattr(cli.commands["doctor"], "callback", warn)
    result = invoke("doctor")
    assert result.stderr == "Warning: a record is damaged\n"
    assert isinstance(cli, click.Group)
