"""The words of the tasks that change what a language model computes, the same in all of them.

A *method* is a way to change activations, such as clamping latents or steering along a difference in means. A *sweep*
is one method at rising strengths. A *setting* is a method at one strength. Every sweep is tried on the validation
split; a task's own rule, in its ``selection.py``, makes one setting the *chosen* one, and only that is reported on the
test split. A *control* repeats the chosen setting with something that should not work: latents drawn at random that
fire as often, or noise of the same norm.

The names below are also the subsets under which tasks report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

CLEAN = "clean"  # the unchanged model
DIFFMEAN = "diffmean"  # steering or ablation along a difference in means, which needs no SAE
RANDOM_LATENTS = "random_latents"
NOISE = "noise"

# The change at one strength: an intervention, or one for each concept or language.
C = TypeVar("C")


@dataclass(frozen=True)
class Setting:
    """A method at one of its strengths. Without a strength nothing is changed."""

    method: str
    strength: float | None

    def note(self) -> dict[str, Any]:
        """The setting as notes of a record hold it."""
        return {"method": self.method, "strength": self.strength}


@dataclass(frozen=True, eq=False)
class Sweep(Generic[C]):
    """A method at rising strengths."""

    method: str
    strengths: tuple[float, ...]
    changes: tuple[C, ...]  # one for each strength; empty where nothing is changed at the hook point
    latents: tuple[int, ...] = ()  # the latents that the method changes

    def chosen(self, place: int | None) -> Chosen[C]:
        """The sweep at its strength number ``place``; None stands for no change."""
        return Chosen(self, place)


@dataclass(frozen=True, eq=False)
class Chosen(Generic[C]):
    """A sweep together with the strength that validation chose; None where no strength is better than no change."""

    sweep: Sweep[C]
    place: int | None

    @property
    def setting(self) -> Setting:
        return Setting(self.sweep.method, None if self.place is None else self.sweep.strengths[self.place])

    @property
    def change(self) -> C | None:
        """What is done to the model; None where nothing is changed."""
        return None if self.place is None or not self.sweep.changes else self.sweep.changes[self.place]
