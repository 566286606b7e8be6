"""Audits as files: reading them, the grades that they give, and when these expire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saebench.cards import audits
from saebench.errors import UsageError
from tests.audit.made_up import audit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(audits, "audits_dir", lambda: tmp_path)
    audits.audit_of.cache_clear()
    yield tmp_path
    audits.audit_of.cache_clear()


def write(folder: Path, made: audits.Audit) -> Path:
    path = folder / f"{made.task}.json"
    path.write_text(made.model_dump_json())
    return path


def version(task: str = "core") -> int:
    return audits.registry().card(task).version


def test_an_audit_reads_back_equal(folder: Path) -> None:
    made = audit()
    assert audits.load_audit(write(folder, made)) == made


def test_grades_hold_for_the_audited_version_only(folder: Path) -> None:
    write(folder, audit(version=version(), fvu="A", ce_recovered_mean="C"))
    assert audits.grade_of("core", version(), "fvu") == audits.Grade("A", "It moves.")
    assert not audits.grade_of("core", version(), "ce_recovered_mean").ranks
    assert audits.grade_of("core", version() + 1, "fvu") is None
    assert audits.letter_of("core", version() + 1, "fvu") == ""
    assert audits.grade_of("core", version(), "l0") is None


def test_without_an_audit_there_is_no_grade(folder: Path) -> None:
    assert audits.audit_of("core") is None
    assert audits.letter_of("core", version(), "fvu") == ""
    assert "was never audited; `saebench audit core`" in audits.stale("core")


def test_what_has_expired_is_said(folder: Path) -> None:
    write(folder, audit(version=version() - 1, fvu="A"))
    assert f"version {version() - 1} was audited, and the card is version {version()}" in audits.stale("core")


def test_a_primary_metric_that_is_missing_is_said(folder: Path) -> None:
    primary = [spec.id for spec in audits.registry().card("core").metrics if spec.primary]
    write(folder, audit(version=version(), **dict.fromkeys(primary[1:], "A")))
    assert primary[0] in audits.stale("core")
    audits.audit_of.cache_clear()
    write(folder, audit(version=version(), **dict.fromkeys(primary, "A")))
    assert audits.stale("core") == ""


@pytest.mark.parametrize("content", ["", "{", "[]", '{"task": "core"}', '{"schema_version": 2}'])
def test_a_broken_file_is_named_and_gives_no_grades(folder: Path, content: str) -> None:
    path = folder / "core.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"core\.json"):
        audits.load_audit(path)
    assert audits.grade_of("core", version(), "fvu") is None


def test_grades_stand_beside_the_names_of_metrics() -> None:
    assert audits.graded("fvu ↓", "B") == "fvu ↓ [B]"
    assert audits.graded("fvu ↓", "") == "fvu ↓"
