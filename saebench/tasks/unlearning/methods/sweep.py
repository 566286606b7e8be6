"""A sweep as this task has it: one of the several that a method may be tried with."""

from __future__ import annotations

from dataclasses import dataclass

from saebench.evaluation.changes import Sweep
from saebench.interventions.base import Intervention


@dataclass(frozen=True, eq=False)
class UnlearningSweep(Sweep[Intervention]):
    """A method at rising strengths. A method that changes latents has one sweep for each selection of latents.

    A sweep without changes leaves the model as it is, unless it is one of weights, which are not kept here.
    """

    label: str = ""  # what is changed, as the notes of a record call it
    gate: float | None = None  # tau of the dynamic guardrail
