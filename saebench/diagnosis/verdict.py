"""Which variant fits, and whether it is the one that is loaded.

Two numbers are compared, because each alone misleads: the FVU is the business of the few dimensions with the largest
variance, and of tokens with outliers; the standardised FVU counts each dimension alike. A variant **fits better** if

- one of the two is higher as loaded, by at least a quarter: its ratio exceeds 1.25 by three standard errors of its
  logarithm (paired by sequence, from the jackknife), and the difference exceeds 0.01;
- the other one is not lower as loaded, but for 5 %;
- the FVU of the variant is below 0.9;
- it does not buy this with more latents: where L0 grows, the ratio must exceed 1.25 times the square root of that
  growth, unless L0 comes nearer to the published one;
- its L0 agrees with the published one, if there is one, or at least comes nearer to it.

An SAE whose L0 is far from the published one is loaded wrong even if it reconstructs well, as a TopK SAE with too large
a k does. There, a variant with the right L0 fits better if its FVU is not higher than fewer latents explain.

Of the variants that fit better, the one with the lowest standardised FVU is named, where more latents count against it
as above, and a quarter counts against a variant with a number that is chosen for the text, such as a threshold that
gives the published L0. If no variant fits better, the SAE is loaded right, unless its own numbers are implausible: L0
far from the published one, an FVU of more than twice the published one (plus 0.05), or, with nothing published, an FVU
above 0.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from saebench.diagnosis.measure import Fit, Ratio
from saebench.diagnosis.published import Published
from saebench.diagnosis.variants import Variant
from saebench.stats.intervals import jackknife_error, ratio

MARGIN = 1.25
ERRORS = 3.0
LEAST = 0.01
NOT_HIGHER = 1.05
USEFUL = 0.9
WORST = 0.7  # the FVU above which an SAE without published numbers is not said to be loaded right
L0_TOLERANCE, K_TOLERANCE = 2.0, 1.25  # factors around the published L0; the second if each token has k latents
_TINY = 1e-12


class Outcome(StrEnum):
    """The three kinds of verdict."""

    RIGHT = "right"
    OTHER = "other"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Row:
    """One variant with its numbers."""

    variant: Variant
    fit: Fit

    @property
    def fvu(self) -> float:
        return ratio(*self.fit.fvu)

    @property
    def standardised(self) -> float:
        return ratio(*self.fit.standardised)

    @property
    def l0(self) -> float:
        return self.fit.l0


@dataclass(frozen=True)
class Verdict:
    """The conclusion from the numbers of all variants.

    Attributes:
        outcome: Its kind.
        best: The variant that fits best; None unless it is another than the one that is loaded.
        reason: With `Outcome.NOTHING`, what is implausible.
    """

    outcome: Outcome
    best: Row | None = None
    reason: str = ""


def judge(loaded: Row, others: Sequence[Row], published: Published, selects_k: bool = False) -> Verdict:
    """Return the verdict.

    Args:
        loaded: The SAE as it is loaded.
        others: The variants.
        published: What is known of its numbers.
        selects_k: Whether it keeps a fixed number of latents, so that L0 must be nearly the published one.
    """
    tolerance = K_TOLERANCE if selects_k else L0_TOLERANCE
    fitting = [row for row in others if row.variant.judged and _fits_better(row, loaded, published, tolerance)]
    if fitting:
        return Verdict(Outcome.OTHER, min(fitting, key=_cost))
    reason = _implausible(loaded, published, tolerance)
    return Verdict(Outcome.NOTHING, reason=reason) if reason else Verdict(Outcome.RIGHT)


def _cost(row: Row) -> float:
    chosen = np.log(MARGIN) if row.variant.fitted else 0.0
    return float(np.log(max(row.standardised, _TINY)) + 0.5 * np.log(max(row.l0, 1.0)) + chosen)


def _fits_better(row: Row, loaded: Row, published: Published, tolerance: float) -> bool:
    if not row.fvu < USEFUL:
        return False
    nearer = _off(row, published) < _off(loaded, published)
    if _off(row, published) > tolerance and not nearer:
        return False
    growth = 0.5 * (np.log(max(row.l0, 1.0)) - np.log(max(loaded.l0, 1.0)))
    if _off(loaded, published) > tolerance and _off(row, published) <= tolerance:
        allowed = np.log(MARGIN) - growth if growth < 0 else 0.0
        return bool(np.log(max(row.fvu, _TINY)) <= np.log(max(loaded.fvu, _TINY)) + allowed)
    needed = np.log(MARGIN) + (0.0 if nearer else max(0.0, growth))
    gains = [_gain(mine, theirs) for mine, theirs in _pairs(row, loaded)]
    drops = [ratio(*theirs) - ratio(*mine) for mine, theirs in _pairs(row, loaded)]
    clear = any(g - ERRORS * error >= needed and drop > LEAST for (g, error), drop in zip(gains, drops, strict=True))
    return clear and all(g >= -np.log(NOT_HIGHER) for g, _ in gains)


def _pairs(row: Row, loaded: Row) -> list[tuple[Ratio, Ratio]]:
    return [(row.fit.fvu, loaded.fit.fvu), (row.fit.standardised, loaded.fit.standardised)]


def _gain(mine: Ratio, theirs: Ratio) -> tuple[float, float]:
    """Return the logarithm of how much lower a ratio is than that of the loaded SAE, with its standard error."""

    def log_ratios(part: Ratio) -> tuple[float, np.ndarray]:
        num, den = part
        whole = num.sum() / max(den.sum(), _TINY)
        without = (num.sum() - num) / np.maximum(den.sum() - den, _TINY)
        return float(np.log(max(whole, _TINY))), np.log(np.maximum(without, _TINY))

    (value, without), (loaded, loaded_without) = log_ratios(mine), log_ratios(theirs)
    return loaded - value, jackknife_error(loaded_without - without)


def _off(row: Row, published: Published) -> float:
    """The factor between L0 and the published one, at least 1; 1 where none is published."""
    if published.l0 is None:
        return 1.0
    return float(np.exp(abs(np.log(max(row.l0, 1e-3) / published.l0))))


def _implausible(loaded: Row, published: Published, tolerance: float) -> str:
    if _off(loaded, published) > tolerance:
        return f"L0 is {loaded.l0:.4g} as loaded, and {published.l0:.4g} according to {published.source}"
    if published.fvu is not None:
        if loaded.fvu > 2 * published.fvu + 0.05:
            return f"FVU is {loaded.fvu:.3g} as loaded, and {published.fvu:.3g} according to {published.source}"
    elif not loaded.fvu <= WORST:
        return f"as loaded it leaves {loaded.fvu:.3g} of the variance unexplained"
    return ""
