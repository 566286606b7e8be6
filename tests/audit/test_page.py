"""Audits as text and as the page of the docs."""

from __future__ import annotations

import pytest

from saebench.audit import page, text
from saebench.cards.audits import Figure
from tests.audit.made_up import audit


def test_the_table_shows_grades_and_lenses_within_80_columns() -> None:
    shown = text.table([audit(fvu="A", ce_recovered_mean="C")])
    assert max(map(len, shown.splitlines())) <= text.WIDTH
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert lines["fvu"][1:] == ["A", "A", "A", "(B)", "(B)", "(B)", "(B)"]
    assert lines["ce_recovered_mean"][1:3] == ["C", "C"]
    assert "core v1" in shown


def test_reasons_are_wrapped() -> None:
    long = audit(fvu="B")
    long = long.model_copy(
        update={"metrics": [entry.model_copy(update={"reason": "Because. " * 30}) for entry in long.metrics]}
    )
    assert max(map(len, text.reasons(long).splitlines())) <= text.WIDTH
    assert text.reasons(long).startswith("fvu (B): Because.")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, ""),
        (Figure(value=None), ""),
        (Figure(value=0.5), "0.5"),
        (Figure(value=0.912, ci_low=0.8, ci_high=0.95), "0.91 [0.8, 0.95]"),
    ],
)
def test_figures(number: Figure | None, shown: str) -> None:
    assert page.figure(number) == shown


def test_two_seeds_are_set_side_by_side() -> None:
    other = audit(fvu="C", l0="A").model_copy(update={"seed": 1})
    lines = page.again([audit(fvu="B", ce="A")], [other]).splitlines()
    assert len(lines) == 3  # ``ce`` and ``l0`` are in one of the two only
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:3] == ["seed 0", "seed 1"]
    assert cells[2] == ["core: `fvu`", "B", "C", "noise B, C"]


@pytest.mark.parametrize("name", page.BLOCKS)
def test_every_block_names_the_metric(name: str) -> None:
    made = page.BLOCKS[name]([audit(fvu="B")])
    assert ("core v1" if name == "made" else "`fvu`") in made or name == "gaming"  # it was not looked at there


def test_the_decided_difference_follows_from_the_components() -> None:
    assert "0.45 (16 documents)" in page.noise([audit(fvu="B")])


def test_what_has_expired_is_said() -> None:
    assert "have expired" in page.reasons([audit(version=10_000, fvu="B")]) or "never audited" in page.reasons(
        [audit(version=10_000, fvu="B")]
    )
