"""The difference between the numbers of two records on the same units, its interval, and when it must not be taken.

Two SAEs whose records differ only in the SAE were measured on the same units (sequences, examples, datasets), which the
records' hashes of the units confirm. A unit that is hard for one is hard for the other, so the difference is known far
better than either number. Resampling the units of both together preserves this.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t

from saebench.errors import SaebenchError
from saebench.results.identity import inputs_by_content
from saebench.results.record import Arrays, Record
from saebench.results.units import OWN_UNITS, other_units
from saebench.stats.intervals import CONFIDENCE, ratio, resampling_weights
from saebench.stats.proportions import bonett_price, paired_shares
from saebench.stats.rng import generator

Key = tuple[str, str, str]  # task, metric, subset
Array = NDArray[np.float64]

PAIRED, UNPAIRED = "paired-bootstrap", "unpaired"
_NORMAL_DF = 1000  # from so many degrees of freedom on, Student's t counts as normal
_BLOCK = 4_000_000  # how many bootstrap counts are held at once: 32 MB


@dataclass(frozen=True)
class Scored:
    """One number with what a paired comparison needs. ``value`` is None where it is not scored."""

    value: float | None
    stderr: float | None
    ci_low: float | None
    ci_high: float | None
    n: int | None
    unit: str
    interval: str
    not_scored: str  # the reason why there is no value
    num: Array | None  # numerators [units]; None where the record has no contributions
    den: Array | None
    units: str = ""  # the hash of the content of all units of this kind; "" where the record has none


@dataclass(frozen=True)
class Difference:
    """``b - a`` with its standard error, 95 % interval and two-sided p-value, which are NaN where there is no interval.

    ``n`` is the number of units; ``method`` is "paired-bootstrap" or "unpaired" (see `difference`).
    """

    value: float
    stderr: float
    ci_low: float
    ci_high: float
    p: float
    n: int
    method: str
    df: float = math.inf  # degrees of freedom of the t distribution that gives the interval and p

    def margin(self, level: float) -> float:
        """Return half the width of the interval of confidence ``1 - level``: from there on ``p < level``."""
        return float(t.isf(level / 2, self.df)) * self.stderr


def scores(record: Record, arrays: Arrays) -> dict[Key, Scored]:
    """Return the numbers of ``record`` with the contributions of each unit, or without these if there are no arrays.

    Raises SaebenchError when ``arrays`` lacks contributions that the record names.
    """
    numbers = {}
    for number in record.measurements:
        num = den = None
        if number.contributions and arrays:
            try:
                num, den = (np.asarray(arrays[f"{number.contributions}.{part}"], float) for part in ("num", "den"))
            except KeyError as error:
                raise SaebenchError(
                    f"Record {record.record_id} ({record.identity.task}) lacks the array {error}; run that job again."
                ) from error
        value = number.value if number.value is not None and math.isfinite(number.value) else None
        numbers[record.identity.task, number.metric, number.subset] = Scored(
            value=value,
            stderr=number.stderr,
            ci_low=number.ci_low,
            ci_high=number.ci_high,
            n=number.n,
            unit=number.unit,
            interval=number.interval,
            not_scored="" if value is not None else number.not_scored or "no value",
            num=num,
            den=den,
            units=record.units.get(number.unit, ""),
        )
    return numbers


def difference(a: Scored, b: Scored, *, replicates: int = 10_000, seed: int = 0) -> Difference:
    """Return ``b - a``, over the units that both have scored.

    Where both have contributions of the same units, the method is "paired-bootstrap". The same units are drawn with
    replacement for both, and the standard error of the difference is multiplied by sqrt(n / (n - 1)), because drawing
    from the sample understates the spread. The interval and the p-value follow from Student's t with n - 1 degrees of
    freedom. For means this is the paired t test. Where all units differ by the same, p is that of the sign test, and
    fewer than six units give no interval. Differences of shares, where every unit counts 0 or 1, have the interval of
    Bonett and Price (`paired_shares`), and their p is not below that of the sign test.

    Otherwise the method is "unpaired": both standard errors are added in quadrature. The distribution is normal, or
    Welch's t where the intervals of the records are those of Student's t. This is conservative where the two numbers
    are positively correlated.

    Args:
        a: The first number.
        b: The second number.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap draws.

    Raises:
        SaebenchError: One of them is not scored, or their units differ in kind, content or number.
    """
    for which, side in (("first", a), ("second", b)):
        if side.value is None:
            raise SaebenchError(f"The {which} is not scored: {side.not_scored or 'no value'}.")
    if a.unit != b.unit:
        raise SaebenchError(f"The units differ: {a.unit or 'none'} and {b.unit or 'none'}.")
    if a.units and b.units and a.units != b.units:
        raise SaebenchError(f"They were measured on different {a.unit}s; measure both again on the same.")
    if a.unit in OWN_UNITS or a.num is None or a.den is None or b.num is None or b.den is None:
        return _unpaired(a, b)
    if len(a.num) != len(b.num):
        raise SaebenchError(f"The numbers of units ({a.unit}) differ: {len(a.num)} and {len(b.num)}.")
    return _paired(a, b, (a.num, a.den), (b.num, b.den), replicates, seed)


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that the chance of any false rejection stays below the level (Holm 1979).

    NaN, which means that no test was made, stays NaN and does not count as a test.
    """
    adjusted = [math.nan] * len(p)
    tested = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    highest = 0.0
    for rank, (value, i) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * value))
        adjusted[i] = highest
    return adjusted


def mismatches(a: Record, b: Record) -> list[str]:
    """Return sentences that say why numbers of ``a`` and ``b`` must not be subtracted; empty when they may be.

    Everything that decides the numbers must be equal, except the SAE and the class of the device. Texts and datasets
    are compared by content, so a copy under another path counts as equal. So are the units, if both records name them.
    """
    x, y = a.identity, b.identity
    if x.task != y.task:
        return [f"The tasks differ: {x.task} and {y.task}."]
    reasons = []
    if x.task_version != y.task_version:
        reasons.append(f"The versions of the task {x.task} differ: {x.task_version} and {y.task_version}.")
    inputs_x, inputs_y = inputs_by_content(x), inputs_by_content(y)
    for name in sorted({*x.parameters, *y.parameters}):
        one, other = (identity.parameters.get(name, "not set") for identity in (x, y))
        # Where the references are equal and the contents are not, the data below say so.
        if one != other and inputs_x[0].get(name, "not set") != inputs_y[0].get(name, "not set"):
            reasons.append(f"The parameter {name} differs: {one} and {other}.")
    if x.model_fingerprint != y.model_fingerprint:
        names = f"{x.model} and {y.model}" if x.model != y.model else f"two contents of {x.model}"
        reasons.append(f"The language models differ: {names}.")
    if x.dtype != y.dtype:
        reasons.append(f"The number types of the language model differ: {x.dtype} and {y.dtype}.")
    for name in sorted({*x.data, *y.data}) if inputs_x != inputs_y else []:
        if name in x.data and name in y.data and x.data[name] != y.data[name]:
            reasons.append(f"The contents of the data {name} differ.")
        elif x.data.get(name) != y.data.get(name) and (x.parameters == y.parameters or inputs_x[0] == inputs_y[0]):
            reasons.append(f"The data differ: only one of them read {name}.")
    if x.seed != y.seed:
        reasons.append(f"The seeds differ: {x.seed} and {y.seed}.")
    # Where something else differs, the units differ because of it.
    return reasons or other_units(a.units, b.units)


def _paired(
    a: Scored, b: Scored, units_a: tuple[Array, Array], units_b: tuple[Array, Array], replicates: int, seed: int
) -> Difference:
    assert a.value is not None
    assert b.value is not None
    common = (units_a[1] != 0) & (units_b[1] != 0)
    # Units that neither has scored change neither number.
    whole = bool(np.all(common | ((units_a[1] == 0) & (units_b[1] == 0))))
    (num_a, den_a), (num_b, den_b) = ((num[common], den[common]) for num, den in (units_a, units_b))
    count = int(common.sum())
    value = b.value - a.value if whole else ratio(num_b, den_b) - ratio(num_a, den_a)
    n = a.n if a.n is not None and bool(common.all()) else count
    if count < 2 or not math.isfinite(value):
        return Difference(value, math.nan, math.nan, math.nan, math.nan, n, PAIRED)
    if _both_counted(num_a, den_a) and _both_counted(num_b, den_b) and den_a[0] == den_b[0]:
        return _of_shares(value, (num_b - num_a) / den_a, n)
    sums = np.stack([num_a, den_a, num_b, den_b], axis=1)
    drawn = np.concatenate([weights @ sums for weights in _weights(count, replicates, seed)])
    if np.any(drawn[:, 1] * den_a.sum() <= 0) or np.any(drawn[:, 3] * den_b.sum() <= 0):
        # A ratio passes through infinity, so no finite interval holds it.
        return Difference(value, math.nan, math.nan, math.nan, math.nan, n, PAIRED)
    replicate = drawn[:, 2] / drawn[:, 3] - drawn[:, 0] / drawn[:, 1]
    stderr = float(replicate.std(ddof=1)) * math.sqrt(count / (count - 1))
    rounding = 1e-12 * max(abs(a.value), abs(b.value))
    if stderr <= rounding:  # the difference is the same in every sample
        stderr, value = 0.0, 0.0 if abs(value) <= rounding else value
        if value:
            return _same_everywhere(value, n, count)
    return _with_interval(value, stderr, n, PAIRED, count - 1)


def _both_counted(num: Array, den: Array) -> bool:
    """Whether every unit counts 0 or 1 with the same weight, so that the number is a share."""
    return bool((den == den[0]).all() and den[0] > 0 and ((num == 0) | (num == den)).all())


def _of_shares(value: float, changes: Array, n: int) -> Difference:
    """Return the difference of two shares, from the change -1, 0 or 1 of each unit.

    p is that of the sign test of the units that change, or of the interval where that is larger.
    """
    found = paired_shares(changes)
    gains, losses = int(np.sum(changes > 0)), int(np.sum(changes < 0))
    centre, stderr = bonett_price(gains / len(changes), losses / len(changes), len(changes))
    exact = float(binomtest(gains, gains + losses).pvalue) if gains + losses else 1.0
    p = max(exact, float(2 * norm.sf(abs(centre) / stderr)))
    return Difference(value, stderr, found.ci_low, found.ci_high, p, n, PAIRED)


def _same_everywhere(value: float, n: int, count: int) -> Difference:
    """Return a difference that every unit shows alike, so that their spread says nothing about its error.

    What remains is that all units point the same way, which is the sign test. Units too few for it decide nothing, and
    there is no interval.
    """
    p = 2.0 ** (1 - count)
    if p > 1 - CONFIDENCE:
        return Difference(value, math.nan, math.nan, math.nan, math.nan, n, PAIRED)
    return Difference(value, 0.0, value, value, p, n, PAIRED, count - 1)


def _weights(n: int, replicates: int, seed: int) -> Iterator[Array]:
    """Yield blocks of bootstrap counts ``[rows, n]``, ``replicates`` rows in all. They are equal for all metrics."""
    if n * replicates <= _BLOCK:
        yield _one_block(n, replicates, seed)
        return
    rng, rows = generator(seed, f"compare:{n}"), max(1, _BLOCK // n)
    for start in range(0, replicates, rows):
        yield resampling_weights(n, min(rows, replicates - start), rng)


@functools.lru_cache(maxsize=4)
def _one_block(n: int, replicates: int, seed: int) -> Array:
    weights = resampling_weights(n, replicates, generator(seed, f"compare:{n}"))
    weights.flags.writeable = False
    return weights


def _unpaired(a: Scored, b: Scored) -> Difference:
    assert a.value is not None
    assert b.value is not None
    (spread_a, df_a), (spread_b, df_b) = _spread(a), _spread(b)
    stderr = math.hypot(spread_a, spread_b)
    uncertain = spread_a**4 / df_a + spread_b**4 / df_b
    df = stderr**4 / uncertain if uncertain > 0 else math.inf  # Welch and Satterthwaite
    n = min((side.n for side in (a, b) if side.n is not None), default=0)
    return _with_interval(b.value - a.value, stderr, n, UNPAIRED, df)


def _spread(number: Scored) -> tuple[float, float]:
    """Return the standard error and the degrees of freedom with which Student's t gives the record's interval.

    Intervals of a few runs are wider than their standard error says, because the tails are heavier than normal ones.
    For shares of 0 or 1 the standard error is 0 while the (Wilson) interval is not; the standard error is then that of
    a normal interval of the same width.
    """
    stderr = math.nan if number.stderr is None else number.stderr
    if number.ci_low is None or number.ci_high is None:
        return stderr, math.inf
    half, tail = (number.ci_high - number.ci_low) / 2, (1 - CONFIDENCE) / 2
    if half <= float(t.isf(tail, _NORMAL_DF)) * stderr:
        return stderr, math.inf
    if not half <= float(t.isf(tail, 1)) * stderr:
        return half / float(norm.isf(tail)), math.inf
    return stderr, float(brentq(lambda df: float(t.isf(tail, df)) * stderr - half, 1, _NORMAL_DF))


def _with_interval(value: float, stderr: float, n: int, method: str, df: float) -> Difference:
    if math.isnan(stderr):
        return Difference(value, stderr, math.nan, math.nan, math.nan, n, method, df)
    away = abs(value) / stderr if stderr else (math.inf if value else 0.0)
    p = float(2 * t.sf(away, df))
    half = float(t.isf((1 - CONFIDENCE) / 2, df)) * stderr
    return Difference(value, stderr, value - half, value + half, p, n, method, df)
