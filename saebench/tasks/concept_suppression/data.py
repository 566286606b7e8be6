"""Labelled sets in three parts: to choose latents on, to choose settings on, and to take figures from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from saebench.data.probes import ASSET
from saebench.errors import DataError
from saebench.passes.context import TaskContext
from saebench.tasks.concept_separability.datasets import labelled

Split = Literal["validation", "test"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Part:
    """Equally many examples of every concept, those of the first concept first."""

    texts: list[str]
    labels: NDArray[np.int64]  # [examples]
    target: Bools  # [concepts, examples]: the concept's own examples
    complement: Bools  # [concepts, examples]: examples of the others on which the damage to them is measured

    @classmethod
    def of(cls, texts: list[str], n_classes: int, share: float) -> Part:
        """A concept's complement is ``share`` of each other concept's examples, not the same for every concept."""
        n = len(texts) // n_classes
        labels = np.repeat(np.arange(n_classes), n)
        target = labels == np.arange(n_classes)[:, None]
        taken = max(1, round(share * n))
        complement = np.zeros_like(target)
        for concept in range(n_classes):
            for step in range(1, n_classes):
                other = (concept + step) % n_classes
                complement[concept, other * n + ((step - 1) * taken + np.arange(taken)) % n] = True
        return cls(texts, labels, target, complement)


@dataclass(frozen=True, eq=False)
class ConceptSplit:
    """One labelled set. No text is in two parts."""

    name: str
    concepts: tuple[str, ...]
    fit: Part
    validation: Part
    test: Part

    def part(self, split: Split) -> Part:
        return self.validation if split == "validation" else self.test


def concept_split(ref: str, context: TaskContext, parameters: dict[str, Any]) -> ConceptSplit:
    """The parts of ``ref``, drawn by the context's seed: the same for every SAE.

    Raises DataError when a concept has too few examples, else as `saebench.data.labelled.load_labelled`.
    """
    data = labelled(ref, context)
    sizes = [parameters[f"{part}_examples"] for part in ("fit", "validation", "test")]
    if (found := int(data.counts.min())) < sum(sizes):
        raise DataError(
            f"{ref!r} has {found} examples of {data.classes[int(data.counts.argmin())]!r}, but {sizes[0]} to fit, "
            f"{sizes[1]} to validate and {sizes[2]} to test need {sum(sizes)} of every concept; ask for fewer "
            "(fit_examples, validation_examples, test_examples), or leave the dataset out."
        )
    rng = context.rng(f"concept_suppression:split:{data.content_hash}")
    rows = [rng.permutation(np.flatnonzero(data.labels == label)) for label in range(len(data.classes))]
    ends = np.cumsum([0, *sizes])
    parts = [
        Part.of(
            [data.texts[row] for of_concept in rows for row in of_concept[start:stop]],
            len(data.classes),
            parameters["complement_share"],
        )
        for start, stop in pairwise(ends.tolist())
    ]
    return ConceptSplit(ref.replace(f"asset:{ASSET}/", ""), data.classes, *parts)
