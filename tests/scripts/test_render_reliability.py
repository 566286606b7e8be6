"""The page on reliability is filled from audits, and says what has expired."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.cards.registry import registry
from scripts import render_reliability
from tests.audit.made_up import audit

PAGE = "# Page\n\n<!-- reliability:grades -->\nold\n<!-- /reliability -->\n"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    audits, page = tmp_path / "audits", tmp_path / "page.md"
    audits.mkdir()
    page.write_text(PAGE)
    version = registry().card("core").version
    (audits / "core.json").write_text(audit("core", version, fvu="B").model_dump_json())
    monkeypatch.setattr(render_reliability, "expired", list)
    return audits, page


def render(folders: tuple[Path, Path], *more: str) -> int:
    return render_reliability.main(["--audits", str(folders[0]), "--page", str(folders[1]), *more])


def test_a_page_is_filled_and_then_up_to_date(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert render(folders, "--check") == 1
    assert "out of date: page.md" in capsys.readouterr().err
    assert folders[1].read_text() == PAGE
    assert render(folders) == 0
    assert "| core: `fvu`" in folders[1].read_text()
    assert render(folders, "--check") == 0


def test_a_broken_audit_is_named(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (folders[0] / "core.json").write_text("{")
    assert render(folders) == 2
    assert "core.json" in capsys.readouterr().err


def test_expired_grades_are_named_and_are_no_failure(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(render_reliability, "expired", lambda: ["The grades of core have expired."])
    assert render(folders) == 0
    assert "have expired" in capsys.readouterr().err
    assert render(folders, "--check") == 0
