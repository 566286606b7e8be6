"""How much the loss rises on both sides along a sweep, and the metrics of such a curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from saebench.evaluation.changes import Chosen
from saebench.interventions.base import Intervention
from saebench.stats.frontier import effect_at_cost, hypervolume
from saebench.stats.intervals import Estimate
from saebench.tasks.unlearning.data.documents import SIDES, Side
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.scoring.samples import Samples, percentile
from saebench.tasks.unlearning.settings import UnlearningSettings

AT_BUDGET = "forget_delta_ce_at_budget"

# From the rises of both sides along a sweep, ``[strengths]`` each, to a value.
CurveMetric = Callable[[Float[np.ndarray, " strengths"], Float[np.ndarray, " strengths"]], float]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class LossRises:
    """By how much the cross-entropy of each document rises at every strength of a sweep."""

    sums: Float[np.ndarray, "strengths documents"]  # nats, summed over a document's predictions
    predictions: Float[np.ndarray, " documents"]
    is_forget: Bool[np.ndarray, " documents"]

    def of_side(self, side: Side) -> tuple[Float[np.ndarray, "strengths n"], Float[np.ndarray, " n"]]:
        """The sums and the numbers of predictions of one side's documents."""
        chosen = self.is_forget if side == "forget" else ~self.is_forget
        return self.sums[:, chosen], self.predictions[chosen]

    def per_token(
        self, side: Side, weights: Float[np.ndarray, "... documents"] | None = None
    ) -> Float[np.ndarray, "... strengths"]:
        """The rise on one side, in nats per token.

        Args:
            side: The side.
            weights: How often each document of the side counts, ``[..., documents]``; by default, once.

        Returns:
            The rise at each strength, ``[..., strengths]``.
        """
        sums, predictions = self.of_side(side)
        weights = np.ones(len(predictions)) if weights is None else weights
        rises: Float[np.ndarray, "... strengths"] = (weights @ sums.T) / (weights @ predictions)[..., None]
        return rises

    def both_sides(self) -> tuple[Float[np.ndarray, " strengths"], Float[np.ndarray, " strengths"]]:
        """The rises on the forget side and on the retain side at each strength, in nats per token."""
        return self.per_token("forget"), self.per_token("retain")

    def at(self, place: int | None) -> LossRises:
        """The rises at the strength number ``place``; at no strength they are 0."""
        sums = np.zeros((1, self.sums.shape[1])) if place is None else self.sums[place : place + 1]
        return LossRises(sums, self.predictions, self.is_forget)

    @property
    def n(self) -> int:
        """The number of documents of the side that has fewer: the sides are resampled separately."""
        return int(min(self.is_forget.sum(), (~self.is_forget).sum()))


@dataclass(frozen=True, eq=False)
class Curve:
    """A sweep, and what it does to the documents that choose a setting and to those that are reported."""

    sweep: UnlearningSweep
    validation: LossRises
    test: LossRises


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """A curve, and which strength of its sweep validation chose; None where no change is better."""

    curve: Curve
    place: int | None

    @property
    def chosen(self) -> Chosen[Intervention]:
        """The sweep at the chosen strength."""
        return self.curve.sweep.chosen(self.place)

    @property
    def test(self) -> LossRises:
        """The rises on the test documents."""
        return self.curve.test.at(self.place)

    @property
    def forgetting(self) -> float:
        """The rise on the forget side of the validation documents, in nats per token."""
        return float(self.curve.validation.at(self.place).per_token("forget")[0])

    def note(self) -> dict[str, Any]:
        """The setting as notes of a record hold it."""
        sweep = self.curve.sweep
        return {"sweep": sweep.label, "strength": self.chosen.setting.strength, "latents": list(sweep.latents)}


def selectivity(forget: Float[np.ndarray, " strengths"], retain: Float[np.ndarray, " strengths"]) -> float:
    """The mean over strengths of (F - R) / (|F| + |R|), for the rises F and R of both sides.

    It is 1 if only the forget side suffers, and 0 if both sides suffer alike. A strength that changes neither counts 0.
    """
    total = np.abs(forget) + np.abs(retain)
    return float(np.mean(np.divide(forget - retain, total, out=np.zeros_like(total), where=total > 0)))


def curve_metrics(settings: UnlearningSettings) -> dict[str, CurveMetric]:
    """The metrics of a whole curve, by their ids on the card."""
    budget, box = settings.retain_budget, {"max_effect": settings.box_forget, "max_cost": settings.box_retain}
    return {
        AT_BUDGET: lambda forget, retain: effect_at_cost(forget, retain, budget),
        "hypervolume": lambda forget, retain: hypervolume(forget, retain, **box),
        "selectivity": selectivity,
    }


class CurveMetrics:
    """The metrics of curves on test documents, with intervals.

    The whole curve is computed anew on every bootstrap sample of the documents.
    """

    def __init__(self, samples: Samples, settings: UnlearningSettings) -> None:
        self._metrics = curve_metrics(settings)
        self._samples = samples
        self._computed: dict[LossRises, dict[str, Float[np.ndarray, " 1+replicates"]]] = {}

    def estimates(self, rises: LossRises) -> dict[str, Estimate]:
        """Every metric of a curve, with its interval."""
        return {metric: percentile(values, rises.n) for metric, values in self.values(rises).items()}

    def difference_at_budget(self, rises: LossRises, other: LossRises) -> Estimate:
        """The forgetting at the budget of one curve minus that of another, on the same samples of documents."""
        return percentile(self.values(rises)[AT_BUDGET] - self.values(other)[AT_BUDGET], rises.n)

    def values(self, rises: LossRises) -> dict[str, Float[np.ndarray, " 1+replicates"]]:
        """Every metric of a curve: first on the documents as they are, and then on every bootstrap sample of them."""
        if rises not in self._computed:
            forget, retain = (self._resampled(rises, side) for side in SIDES)
            self._computed[rises] = {
                metric: np.array([compute(*curve) for curve in zip(forget, retain, strict=True)])
                for metric, compute in self._metrics.items()
            }
        return self._computed[rises]

    def _resampled(self, rises: LossRises, side: Side) -> Float[np.ndarray, "1+replicates strengths"]:
        weights = self._samples.weights(len(rises.of_side(side)[1]), side)
        return np.concatenate([rises.per_token(side)[None], rises.per_token(side, weights)])
