"""Where noise comes from, and what decides a difference, against simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from saebench.audit.components import components, decided, needed
from saebench.cards.audits import Components
from saebench.errors import UsageError
from saebench.results.paired import Scored, difference
from saebench.stats.rng import generator


def scored(values: np.ndarray, unit: str = "document") -> Scored:
    return Scored(float(values.mean()), None, None, None, len(values), unit, "", "", values, np.ones(len(values)))


def noise(per_unit: float, rest: float, n: int = 16) -> Components:
    return Components(unit="document", n=n, per_unit=per_unit, rest=rest, preset="quick")


def test_units_and_rest_are_found_again() -> None:
    rng, n = generator(0, "audit: components"), 4000
    shared = rng.normal(0, 5, n)  # documents that are hard for every SAE do not count
    saes = [scored(shared + rng.normal(0, 1, n)) for _ in range(3)]
    found = components(saes, None, "quick")
    assert found is not None
    assert found.per_unit == pytest.approx(math.sqrt(2), rel=0.05)
    assert (found.n, found.unit, found.rest) == (n, "document", 0.0)

    pair = math.sqrt(found.per_unit**2 / n / 2 + 0.3**2)
    assert components(saes, pair, "quick").rest == pytest.approx(0.3 * math.sqrt(2), rel=1e-6)


def test_units_of_each_sae_cannot_be_paired() -> None:
    assert components([scored(np.arange(4.0), "latent"), scored(np.ones(4), "latent")], 0.1, "quick") is None
    assert components([scored(np.arange(4.0))], 0.1, "quick") is None


def test_needed_units_give_the_power_that_they_promise() -> None:
    per_unit, wanted = 0.5, 0.2
    n = needed(noise(per_unit, 0.0), wanted).units
    assert n == math.ceil((2.8016 * per_unit / wanted) ** 2)
    rng, found, draws = generator(1, "audit: power"), 0, 500
    for _ in range(draws):
        a = rng.normal(0, 1, n)
        change = difference(scored(a), scored(a + rng.normal(wanted, per_unit, n)), replicates=200)
        found += change.ci_low > 0
    assert 0.73 <= found / draws <= 0.86  # Student's t costs a little of the 80 %


def test_rest_needs_seeds() -> None:
    alone = needed(noise(1.0, 0.0), 0.1)
    both = needed(noise(1.0, 0.2), 0.1)
    assert alone.seeds == 1
    assert both.seeds > 1
    spread = math.sqrt((1.0 / both.units + 0.2**2) / both.seeds)
    assert spread <= 0.1 / 2.8015


def test_what_a_preset_decides_is_what_it_needs() -> None:
    found = noise(0.5, 0.0, n=25)
    assert needed(found, decided(found) * 1.0001).units == 25


@pytest.mark.parametrize("wanted", [0.0, -1.0, math.nan, math.inf])
def test_a_difference_must_be_above_nothing(wanted: float) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        needed(noise(1.0, 0.0), wanted)


def test_noise_that_no_seed_takes_away_is_said() -> None:
    with pytest.raises(UsageError, match="cannot be decided"):
        needed(noise(1.0, 1.0), 1e-4)
