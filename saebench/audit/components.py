"""Where the noise of a metric comes from, and how much must be measured to decide a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from scipy.stats import norm

from saebench.cards.audits import Components
from saebench.errors import SaebenchError, UsageError
from saebench.results.paired import PAIRED, Scored, difference
from saebench.stats.intervals import CONFIDENCE

POWER = 0.8  # the chance of deciding a difference that is there


@dataclass(frozen=True)
class Needed:
    """How much decides a difference: the number of units under each seed, and of seeds, whose values are averaged."""

    units: int
    seeds: int


def components(numbers: Sequence[Scored], pair: float | None, preset: str) -> Components | None:
    """Return the components of the noise of a difference between two SAEs.

    Args:
        numbers: The number of each trained SAE with the contributions of its units, all under one seed.
        pair: The standard deviation of one SAE's value over seeds, without what all SAEs share
            (`saebench.audit.lenses.Noise.pair`); None if it is unknown, and then nothing counts as rest.
        preset: The preset under which they were measured.

    Returns:
        The components, or None where no two SAEs share units.
    """
    spreads = []
    for a, b in combinations(numbers, 2):
        try:
            change = difference(a, b)
        except SaebenchError:  # one is not scored
            continue
        if change.method == PAIRED and math.isfinite(change.stderr) and change.n > 1:
            spreads.append((change.stderr * math.sqrt(change.n), change.n))
    if not spreads:
        return None
    per_unit, n = median(spread for spread, _ in spreads), min(n for _, n in spreads)
    rest = 0.0 if pair is None else math.sqrt(max(0.0, 2 * pair**2 - per_unit**2 / n))
    return Components(unit=numbers[0].unit, n=n, per_unit=per_unit, rest=rest, preset=preset)


def needed(noise: Components, difference: float, most_seeds: int = 1000) -> Needed:
    """Return how many units and seeds decide a difference at 95 % confidence with a power of 80 %.

    As few seeds as possible are used, because each of them costs a whole evaluation: with s seeds of n units the
    variance of a difference is (per_unit^2 / n + rest^2) / s, and must be at most (difference / 2.80)^2.

    Raises:
        UsageError: The difference is not above 0, or more than ``most_seeds`` seeds would be needed.
    """
    if not (math.isfinite(difference) and difference > 0):
        raise UsageError(f"A difference to decide must be above 0, not {difference:g}.")
    allowed = (difference / float(norm.isf((1 - CONFIDENCE) / 2) + norm.ppf(POWER))) ** 2
    # The rest may take half of what is allowed at most; otherwise units would have to make up for it without end.
    seeds = max(1, math.ceil(2 * noise.rest**2 / allowed)) if noise.rest**2 > allowed / 2 else 1
    if seeds > most_seeds:
        raise UsageError(
            f"A difference of {difference:g} cannot be decided: {noise.rest:.2g} of noise does not come from "
            f"{noise.unit}s, and even {most_seeds:,} seeds leave too much of it. Ask for a larger difference."
        )
    units = math.ceil(noise.per_unit**2 / (seeds * allowed - noise.rest**2)) if noise.per_unit else 2
    return Needed(units=max(2, units), seeds=seeds)


def decided(noise: Components) -> float:
    """Return the difference that the audited preset decides with a power of 80 %, under one seed."""
    spread = math.sqrt(noise.per_unit**2 / noise.n + noise.rest**2)
    return float(norm.isf((1 - CONFIDENCE) / 2) + norm.ppf(POWER)) * spread
