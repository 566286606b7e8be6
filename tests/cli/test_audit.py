"""``saebench audit`` and ``saebench power``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from saebench.audit import audit as auditing
from saebench.audit import workers
from saebench.audit.audit import Outcome
from saebench.cards import audits
from saebench.cli.main import cli
from saebench.errors import SaebenchError
from tests.audit.made_up import audit


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of installed audits."""
    monkeypatch.setattr(audits, "audits_dir", lambda: tmp_path / "installed")
    audits.audit_of.cache_clear()
    yield tmp_path / "installed"
    audits.audit_of.cache_clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was audited; ``detox`` cannot be."""
    calls: list[tuple[Any, ...]] = []

    def audit_task(task: str, size: Any, name: str, seed: int, out: Path, progress: Any) -> Outcome:
        calls.append((task, name, seed, out))
        if task == "detox":
            raise SaebenchError("The audit of detox measured nothing. It is too slow.")
        return Outcome(audit(task, 1, score="B"), ("x (seed 0): an SAE failed.",))

    monkeypatch.setattr(auditing, "audit_task", audit_task)
    monkeypatch.setattr(workers, "most_workers", lambda tasks: 1)
    return calls


def test_audits_are_written_and_shown(tmp_path: Path, asked: list[Any], folder: Path) -> None:
    result = run("audit", "core", "--seed", "7", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert asked == [("core", "default", 7, tmp_path / "out")]
    assert audits.load_audit(tmp_path / "out" / "core.json").task == "core"
    assert "score" in result.output
    assert "an SAE failed" in result.stderr
    assert not folder.exists()


def test_install_puts_them_where_tables_look(tmp_path: Path, asked: list[Any], folder: Path) -> None:
    assert run("audit", "core", "--out", str(tmp_path / "out"), "--install").exit_code == 0
    assert audits.load_audit(folder / "core.json").task == "core"


def test_one_task_that_cannot_be_audited_stops_no_other(tmp_path: Path, asked: list[Any]) -> None:
    result = run("audit", "detox", "core", "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert [call[0] for call in asked] == ["detox", "core"]
    assert "It is too slow" in result.stderr
    assert (tmp_path / "out" / "core.json").is_file()


def test_all_takes_the_tasks_for_language_models(tmp_path: Path, asked: list[Any]) -> None:
    run("audit", "all", "--out", str(tmp_path / "out"))
    assert len(asked) == 9
    assert not {"ground_truth", "joint_splice"} & {call[0] for call in asked}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("audit", "coer"), "There is no task 'coer'. Did you mean 'core'?"),
        (("audit", "all", "core"), "`all` stands for every task"),
        (("audit", "core", "--size", "big"), "There is no size 'big'"),
        (("audit", "joint_splice"), "there is no audit of such tasks yet"),
        (("audit", "ground_truth"), "measures the truth on synthetic models"),
        (("power", "core"), "was never audited"),
        (("power", "coer"), "Did you mean 'core'?"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


def install(folder: Path, **metrics: str) -> None:
    folder.mkdir(exist_ok=True)
    version = audits.registry().card("core").version
    (folder / "core.json").write_text(audit("core", version, **metrics).model_dump_json())


def test_power_says_what_a_preset_decides(folder: Path) -> None:
    install(folder, fvu="B")
    result = run("power", "core")
    assert result.exit_code == 0
    assert "16 documents" in result.output
    assert "0.45" in result.output
    assert max(map(len, result.output.splitlines()[:3])) <= 80


def test_power_says_what_a_difference_needs(folder: Path) -> None:
    install(folder, fvu="B", ce_recovered_mean="A")
    result = run("power", "core", "--difference", "0.1", "--metric", "fvu")
    assert result.exit_code == 0
    assert "seeds" in result.output  # the rest of the noise does not come from documents
    assert "ce_recovered_mean" not in result.output
    assert run("power", "core", "--difference", "0").exit_code == 2
    assert run("power", "core", "--metric", "fuv").exit_code == 2


def test_power_says_what_no_sample_decides(folder: Path) -> None:
    install(folder, fvu="B")
    result = run("power", "core", "--difference", "0.0001")
    assert result.exit_code == 0
    assert "cannot be decided" in result.output
