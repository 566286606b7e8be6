"""What a sweep does to concepts and to general text, and the averages that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Side = Literal["target", "complement"]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Design:
    """Which examples are measured for which concept, and how many predictions each sequence of general text has."""

    target: NDArray[np.bool_]  # [concepts, examples]
    complement: NDArray[np.bool_]  # [concepts, examples]
    predictions: Array  # [sequences]

    def contributions(self, values: Array, side: Side) -> tuple[Array, Array]:
        """The sum of ``values[..., concepts, examples]`` over concepts, and the number of concepts, for each example.

        Every concept has the same number of examples, so the ratio of the totals is the mean over concepts.
        """
        member = self._member(side)
        return np.where(member, values, 0.0).sum(-2), member.sum(0).astype(np.float64)

    def selective(self, values: Array) -> tuple[Array, Array]:
        """As `contributions`: the mean of ``values[concepts, examples]`` over targets minus that over complements.

        Each example stands for itself among the targets and, in proportion, among the complements of other concepts.
        """
        (target, n_target), (other, n_other) = (self.contributions(values, side) for side in ("target", "complement"))
        return target - other * (n_target.sum() / n_other.sum()), n_target

    def by_concept(self, values: Array, side: Side) -> Array:
        """The means ``[..., concepts]`` over examples of ``values[..., concepts, examples]``."""
        member = self._member(side)
        return np.where(member, values, 0.0).sum(-1) / member.sum(-1)

    def log_ratio(self, nats: Array) -> Array:
        """The logarithm of the perplexity ratio, ``[..., concepts]``, from ``nats[..., concepts, sequences]``."""
        return nats.sum(-1) / self.predictions.sum()

    def _member(self, side: Side) -> NDArray[np.bool_]:
        return self.target if side == "target" else self.complement


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a sweep does at each of its strengths. Strength 0, which changes nothing, comes first."""

    strengths: tuple[float, ...]
    accuracy: Array  # [strengths, concepts, examples]: its fall (-1, 0 or 1), NaN where it is not measured
    confidence: Array  # the same for the probability of the example's own concept
    nats: Array  # [strengths, concepts, sequences]: the rise of the cross-entropy, summed over predictions

    def at(self, strength: float | None) -> Outcome:
        """Return the outcome of one strength alone; None stands for 0."""
        place = self.strengths.index(strength or 0.0)
        one = slice(place, place + 1)
        return Outcome(self.strengths[one], self.accuracy[one], self.confidence[one], self.nats[one])

    def averaged(self) -> Outcome:
        """Return the mean over all changes, such as the draws of a control; without any, nothing is changed."""
        rows = slice(1, None) if len(self.strengths) > 1 else slice(0, 1)
        values = (x[rows].mean(0, keepdims=True) for x in (self.accuracy, self.confidence, self.nats))
        return Outcome(self.strengths[rows][:1], *values)


def cost_at_drop(drop: Array, cost: Array, level: float) -> Array:
    """Return the cost at which the drop first reaches ``level``, linear between neighbouring strengths.

    Args:
        drop: The drop at each strength, ``[..., strengths]``; the first strength changes nothing.
        cost: The cost at each strength, ``[..., strengths]``.
        level: The drop to reach, above 0.

    Returns:
        Costs ``[...]``, NaN where the level is never reached.
    """
    reached = drop >= level
    after = reached.argmax(-1)[..., None]
    before = np.maximum(after - 1, 0)
    (low, high), (cheap, dear) = (
        (np.take_along_axis(values, before, -1)[..., 0], np.take_along_axis(values, after, -1)[..., 0])
        for values in (drop, cost)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        interpolated = cheap + (level - low) / (high - low) * (dear - cheap)
    return np.where(reached.any(-1), interpolated, np.nan)
