"""Trade-offs between forgetting and side effects along sweeps, and what is read off them, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saebench.passes.context import TaskContext
from saebench.stats.frontier import effect_at_cost, hypervolume
from saebench.stats.intervals import CONFIDENCE, Estimate, resampling_weights
from saebench.tasks.unlearning.methods import Sweep

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Changes:
    """By how much the cross-entropy of each document rises, at every strength of a sweep."""

    sums: Floats  # [strengths, documents], nats summed over a document's predictions
    counts: Floats  # [documents], predictions
    is_forget: NDArray[np.bool_]  # [documents]

    def of(self, *, forget: bool) -> tuple[Floats, Floats]:
        """Sums ``[strengths, documents]`` and counts ``[documents]`` of one side."""
        side = self.is_forget == forget
        return self.sums[:, side], self.counts[side]

    def rise(self, *, forget: bool, weights: Floats | None = None) -> Floats:
        """Nats per token at each strength, ``[strengths]``; for bootstrap weights ``[..., documents]`` of that side,
        ``[..., strengths]``."""
        sums, counts = self.of(forget=forget)
        weights = np.ones(len(counts)) if weights is None else weights
        found: Floats = (weights @ sums.T) / (weights @ counts)[..., None]
        return found

    def rises(self) -> tuple[Floats, Floats]:
        """Those of the forget and of the retained documents."""
        return self.rise(forget=True), self.rise(forget=False)

    def at(self, strength: int | None) -> Changes:
        """Of one strength; without one, nothing is changed."""
        kept = np.zeros((1, self.sums.shape[1])) if strength is None else self.sums[strength : strength + 1]
        return Changes(kept, self.counts, self.is_forget)


@dataclass(frozen=True, eq=False)
class Curve:
    """What a sweep does to documents that choose among settings, and to those that are reported."""

    sweep: Sweep
    validation: Changes
    test: Changes


@dataclass(frozen=True, eq=False)
class Chosen:
    """One of a method's sweeps, and one of its strengths (None: none stays within the budget), by validation."""

    curve: Curve
    strength: int | None

    @property
    def test(self) -> Changes:
        return self.curve.test.at(self.strength)

    @property
    def forget(self) -> float:
        """What validation promises."""
        return float(self.curve.validation.at(self.strength).rise(forget=True)[0])

    def describe(self) -> dict[str, object]:
        value = None if self.strength is None else self.curve.sweep.strengths[self.strength]
        return {"sweep": self.curve.sweep.name, "strength": value, "latents": list(self.curve.sweep.latents)}


def choose(curves: Sequence[Curve], budget: float) -> Chosen:
    """The setting with the most forgetting among those whose side effect is within ``budget``, on validation.

    Changing nothing is always among them. Of equal ones the first; without any, the first sweep and no strength.
    """
    best = Chosen(curves[0], None)
    for curve in curves:
        forget, retain = curve.validation.rises()
        for strength in np.flatnonzero(retain <= budget).tolist():
            if forget[strength] > best.forget:
                best = Chosen(curve, strength)
    if best.strength is None:  # no setting helps within the budget: the sweep that comes nearest stands for the method
        at_budget = [effect_at_cost(*curve.validation.rises(), budget) for curve in curves]
        best = Chosen(curves[int(np.argmax(at_budget))], None)
    return best


def selectivity(forget: Floats, retain: Floats) -> float:
    """Mean over strengths of (F - R) / (|F| + |R|): 1 if only the forget text suffers, 0 if both do alike.

    A strength that changes neither counts 0.
    """
    total = np.abs(forget) + np.abs(retain)
    return float(np.mean(np.divide(forget - retain, total, out=np.zeros_like(total), where=total > 0)))


Figure = Callable[[Floats, Floats], float]  # of forget and retain rises along a sweep


def at_budget(budget: float) -> Figure:
    return lambda forget, retain: effect_at_cost(forget, retain, budget)


def in_box(max_forget: float, max_retain: float) -> Figure:
    return lambda forget, retain: hypervolume(forget, retain, max_effect=max_forget, max_cost=max_retain)


class Resamples:
    """Bootstrap samples of the documents of both sides, drawn apart and the same for every SAE and method."""

    def __init__(self, context: TaskContext, replicates: int) -> None:
        self._context, self.replicates = context, replicates

    def weights(self, n: int, unit: str) -> Floats:
        """``[replicates, n]`` for one kind of unit."""

        def draw() -> Floats:
            return resampling_weights(n, self.replicates, self._context.rng(f"unlearning:bootstrap:{unit}:{n}"))

        return self._context.shared(("unlearning", "bootstrap", unit, n, self.replicates), draw)

    def figure(self, test: Changes, figure: Figure) -> tuple[float, Floats]:
        """The figure of the sweep, and that of every sample, ``[replicates]``."""
        rises = []
        for forget in (True, False):
            _, counts = test.of(forget=forget)
            weights = self.weights(len(counts), "forget" if forget else "retain")
            rises.append(np.concatenate([test.rise(forget=forget)[None], test.rise(forget=forget, weights=weights)]))
        values = np.array([figure(forget, retain) for forget, retain in zip(*rises, strict=True)])
        return float(values[0]), values[1:]


def percentile(value: float, replicates: Floats, n: int) -> Estimate:
    """The percentile interval (Efron 1979) of a figure that is recomputed on every sample; NaN for less than two units.

    Not BCa: figures with a floor at 0 have many samples that lie on it.
    """
    if n < 2 or not np.isfinite(replicates).all():
        return Estimate(value, np.nan, np.nan, np.nan, n, "percentile-bootstrap")
    low, high = np.quantile(replicates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(replicates.std(ddof=1)), float(low), float(high), n, "percentile-bootstrap")
