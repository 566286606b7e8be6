"""What sweeps do to the validation documents, and the settings that are chosen there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saebench.evaluation.changes import Chosen
from saebench.interventions.base import Intervention
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.scoring.losses import Losses, selective


@dataclass(frozen=True, eq=False)
class Curve:
    """A sweep, and what it does to the documents that choose a setting."""

    sweep: UnlearningSweep
    validation: Losses


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
    def score(self) -> float:
        """The selective forgetting on validation; 0 where nothing is changed."""
        return 0.0 if self.place is None else float(selective(self.curve.validation)[self.place])

    def note(self) -> dict[str, Any]:
        """The setting as notes of a record hold it."""
        sweep = self.curve.sweep
        return {"sweep": sweep.label, "strength": self.chosen.setting.strength, "latents": list(sweep.latents)}


def choose(curves: Sequence[Curve]) -> CurvePoint:
    """Choose the setting of a method with the largest selective forgetting on validation.

    There is no limit that a setting may not exceed, because a single document that a gate opens by mistake would decide
    on which side of the limit a setting lies. Its cost is part of the score instead.

    Args:
        curves: The curves of the method's sweeps.

    Returns:
        The setting; of equal ones, the first. Where no setting is above 0, no strength, and the curve that comes
        closest.
    """
    scores = [selective(curve.validation) for curve in curves]
    scores = [np.where(np.isfinite(values), values, -np.inf) for values in scores]
    best = max(range(len(curves)), key=lambda number: scores[number].max())  # the first of equal ones
    place = int(scores[best].argmax())
    return CurvePoint(curves[best], place if scores[best][place] > 0 else None)


def headline_method(chosen: Mapping[str, CurvePoint]) -> str:
    """The method whose setting has the largest selective forgetting on validation; of equal ones, the first."""
    return max(chosen, key=lambda method: chosen[method].score)
