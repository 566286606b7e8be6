"""Audits of several tasks at a time give what they give one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.audit import workers
from saebench.audit.audit import Outcome
from saebench.audit.workers import Asked, audit_tasks
from saebench.progress import ConsoleProgress, NullProgress


def test_two_at_a_time(tmp_path: Path) -> None:
    task, found = "concept_separability", {}
    for number in (1, 2):
        asked = Asked("smoke", 0, tmp_path / str(number))
        # More workers than tasks are as many.
        found[number] = dict(audit_tasks([task, "no_such_task"], asked, number**99, NullProgress()))
        assert (asked.out / f"{task}.json").is_file()
        assert isinstance(found[number]["no_such_task"], str)  # and the other goes on
    alone, beside = (found[number][task] for number in (1, 2))
    assert isinstance(alone, Outcome)
    assert isinstance(beside, Outcome)
    assert beside.failed == alone.failed == ()
    assert beside.audit.metrics == alone.audit.metrics


def test_lines_name_their_task(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ConsoleProgress(workers._Lines("core"))
    progress.log("one")
    progress.log("two")
    assert capsys.readouterr().err == "core: one\ncore: two\n"
