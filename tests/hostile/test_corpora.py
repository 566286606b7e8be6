"""A part of the hostile inputs, the same each time; ``make soak`` tries them all."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.hostile.judge import corpora, raw_characters
from tests.soak.units import Sizes, Unit, do, units

TRIED = 64


@pytest.mark.parametrize("unit", units(Sizes(0, 0, TRIED, 0), seed=0), ids=lambda unit: unit.name)
def test_only_documented_errors(unit: Unit, soak_pool: ProcessPoolExecutor):
    tally = soak_pool.submit(do, unit).result()
    assert tally.number > 0
    assert tally.faults == []


def test_there_are_enough_hostile_inputs():
    assert len(corpora()) >= 400
    assert len({case.family for case in corpora().values()}) >= 4


RAW = (b"\x1b[31m", b"\x07", b"\x00", b"a\rb", b"\x7f", "\x85".encode(), b"\xff", b"\xed\xa0\x80")


@pytest.mark.parametrize("data", RAW)
def test_raw_characters_are_noticed(data: bytes):
    assert len(raw_characters(b"text" + data)) == 1
    assert raw_characters("a line\n\tand ünïcode ✓\n".encode()) == []
