"""A small part of the soak, the same each time: kills, processes that work at once, and fuzzed inputs."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.soak.units import Sizes, Unit, do, units

SMALL = Sizes(kills=24, processes=8, hostile=0, fuzz=3000, timed=False)


@pytest.mark.parametrize("unit", units(SMALL, seed=1), ids=lambda unit: unit.name)
def test_nothing_is_lost_torn_changed_or_undocumented(unit: Unit, soak_pool: ProcessPoolExecutor):
    tally = soak_pool.submit(do, unit).result()
    assert tally.number > 0
    assert tally.faults == []
