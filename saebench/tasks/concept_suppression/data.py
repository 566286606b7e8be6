"""The data of the task: labelled sets, divided into three parts, and the general text for the perplexity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from saebench.data.labelled import Labelled
from saebench.data.tokens import TokenBatch
from saebench.errors import DataError
from saebench.passes.context import TaskContext
from saebench.passes.labelled import labelled_sets
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings

SplitName = Literal["validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class ConceptExamples:
    """The same number of examples of every concept, those of the first concept first."""

    texts: list[str]
    labels: NDArray[np.int64]  # [examples]
    target: Bools  # [concepts, examples]: the concept's own examples
    complement: Bools  # [concepts, examples]: examples of the others on which the damage to them is measured

    @classmethod
    def of(cls, texts: list[str], n_classes: int, share: float) -> ConceptExamples:
        """Choose the complement of each concept: ``share`` of the examples of each other concept.

        Concepts get different examples as far as possible.
        """
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
class DividedSet:
    """A labelled set in three parts: to fit on, to choose settings on, and to test on. No text is in two of them."""

    name: str
    content_hash: str  # of the whole set
    concepts: tuple[str, ...]
    fit: ConceptExamples
    validation: ConceptExamples
    test: ConceptExamples

    def part(self, split: SplitName) -> ConceptExamples:
        return self.validation if split == "validation" else self.test


def divided_sets(context: TaskContext, settings: ConceptSuppressionSettings) -> list[DividedSet]:
    """Return the labelled sets of the settings in the order of their content; all SAEs share them.

    Raises as `labelled_sets` and `divided_set` do.
    """
    sizes = (settings.fit_examples, settings.validation_examples, settings.test_examples, settings.complement_share)
    return [
        context.shared(
            ("concept_suppression", "set", name, data.ref, *sizes), partial(divided_set, name, data, context, settings)
        )
        for name, data in labelled_sets(context, settings.datasets)
    ]


def divided_set(name: str, data: Labelled, context: TaskContext, settings: ConceptSuppressionSettings) -> DividedSet:
    """Divide a labelled set by the seed of the context, in the same way for every SAE.

    Args:
        name: How records name the set.
        data: The labelled set.
        context: Gives the random generator.
        settings: Holds the sizes of the parts.

    Raises:
        DataError: The set has too few examples of a concept.
    """
    sizes = (settings.fit_examples, settings.validation_examples, settings.test_examples)
    if (fewest := int(data.counts.min())) < sum(sizes):
        raise DataError(
            f"{data.ref!r} has {fewest} examples of {data.classes[int(data.counts.argmin())]!r}, but {sizes[0]} to "
            f"fit, {sizes[1]} to validate and {sizes[2]} to test need {sum(sizes)} of every concept; ask for fewer "
            "(fit_examples, validation_examples, test_examples), or leave the dataset out."
        )
    rng = context.rng("concept_suppression:split", data.content_hash)
    rows = [rng.permutation(np.flatnonzero(data.labels == label)) for label in range(len(data.classes))]
    ends = np.cumsum([0, *sizes]).tolist()
    texts = [[data.texts[row] for of_class in rows for row in of_class[a:b]] for a, b in pairwise(ends)]
    parts = [ConceptExamples.of(part, len(data.classes), settings.complement_share) for part in texts]
    return DividedSet(name, data.content_hash, data.classes, *parts)


def general_text(context: TaskContext, settings: ConceptSuppressionSettings) -> TokenBatch:
    """Return the sequences for the perplexity: those of validation, followed by those of the test.

    Raises:
        UsageError: The reference is wrong, or the language model has too few positions.
        AssetError: The asset that it names is missing or damaged.
        DataError: The text is too short.
    """
    n = settings.validation_sequences + settings.test_sequences
    batch = context.batch(settings.perplexity_text, settings.perplexity_context_length, n)
    if batch.n_missing:
        raise DataError(
            f"The text {settings.perplexity_text!r} is {batch.n_missing} sequences too short for the perplexity; ask "
            "for fewer (validation_sequences, test_sequences), or name a longer one."
        )
    return batch
