"""The audits of the repository: they are whole, and their grades follow from what the lenses saw."""

from __future__ import annotations

import pytest

from saebench.audit import rules
from saebench.cards.audits import Audit, audits_dir, load_audit
from saebench.cards.registry import registry

pytestmark = pytest.mark.published


def shipped() -> list[Audit]:
    return [load_audit(path) for path in sorted(audits_dir().glob("*.json"))]


def test_grades_follow_from_the_findings() -> None:
    for audit in shipped():
        assert audit.rules == rules.RULES
        for entry in audit.metrics:
            letter, reason = rules.grade(entry.lenses)
            if entry.grade != letter:  # a card may forbid to rank by a metric, and nothing makes a grade better
                assert (entry.grade, "Its card says" in entry.reason) == ("C", True), entry
            else:
                assert reason in entry.reason or entry.grade == "C"


def test_what_an_a_promises_holds() -> None:
    """The SAE with the true features comes first, and all trained SAEs lie above permuted, random and frozen ones."""
    for audit in shipped():
        for entry in audit.metrics:
            if entry.grade == "A":
                assert entry.lenses["truth"].names == []
                assert entry.lenses["training"].names == []
                separations = [f for name, f in entry.lenses["training"].figures.items() if "separation" in name]
                assert {figure.value for figure in separations} == {1.0}
                assert entry.lenses["gaming"].names == []


def test_every_audit_is_of_a_built_in_task() -> None:
    for audit in shipped():
        card = registry().card(audit.task)
        assert audit.task_version <= card.version
        assert {entry.metric for entry in audit.metrics} <= {spec.id for spec in card.metrics}
