"""Labelled sets as the task uses them: equally many examples of each concept, in two halves of ten groups each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from saebench.data.labelled import Labelled, split_labelled
from saebench.data.labelled_ref import WordLabels, parse_labelled_ref
from saebench.errors import DataError
from saebench.passes.context import TaskContext
from saebench.passes.examples import Examples
from saebench.passes.labelled import labelled_sets
from saebench.tasks.concept_separability.settings import ConceptSeparabilitySettings

GROUPS = 10  # groups in each half


@dataclass(frozen=True)
class ConceptSet:
    """Examples of some concepts. Every group holds the same number of examples of each concept.

    The first half consists of the groups 0 to GROUPS - 1, the second half of GROUPS to 2 * GROUPS - 1.
    """

    name: str
    texts: list[str]
    labels: Int[Tensor, " examples"]
    groups: Int[Tensor, " examples"]
    permutations: Int[Tensor, "permutations examples"]  # the labels, permuted within each half
    concepts: tuple[str, ...]
    word_level: bool = False  # each concept is a word, and each example ends with its word

    @property
    def content(self) -> list[Any]:
        """What tells the examples from others: texts, labels and groups."""
        return [self.texts, self.labels.tolist(), self.groups.tolist()]

    @cached_property
    def group_sizes(self) -> list[int]:
        """The number of examples of each concept in each group, ``[2 * GROUPS]``."""
        groups = self.groups[self.labels == 0]
        return [int(n) for n in torch.bincount(groups, minlength=2 * GROUPS)]

    def to(self, device: torch.device) -> ConceptSet:
        """Return a copy whose tensors lie on ``device``."""
        labels, groups, permutations = (x.to(device) for x in (self.labels, self.groups, self.permutations))
        return replace(self, labels=labels, groups=groups, permutations=permutations)


class ReadConceptSet(NamedTuple):
    """A concept set, and the activations of the language model on its examples."""

    concepts: ConceptSet
    examples: Examples


def concept_sets(context: TaskContext, settings: ConceptSeparabilitySettings) -> list[ReadConceptSet]:
    """Return one concept set for each dataset of the settings, in the order of their content; all SAEs share them.

    Raises as `labelled_sets` and `concept_set` do, and UsageError when the language model has fewer positions than
    ``context_length``.
    """

    sizes = (settings.examples, settings.permutations)

    def read() -> list[ReadConceptSet]:
        drawn = [concept_set(name, data, context, *sizes) for name, data in labelled_sets(context, settings.datasets)]
        return [
            ReadConceptSet(c.to(context.lm.device), context.examples(c.texts, settings.context_length)) for c in drawn
        ]

    return context.shared(("concept_separability", "sets", settings.datasets, *sizes, settings.context_length), read)


def concept_set(name: str, data: Labelled, context: TaskContext, examples: int, permutations: int) -> ConceptSet:
    """Draw examples of each concept of a labelled set by the seed of the context: the same ones for every SAE.

    Args:
        name: How records name the set.
        data: The labelled set.
        context: Gives the random generators.
        examples: How many examples of each concept each half gets. A word-level set takes as many as its rarest word
            has if these are fewer, but 10 at least.
        permutations: How many permutations of the labels are drawn.

    Raises:
        DataError: A concept has fewer than ``2 * examples`` examples, or a word fewer than 20.
    """
    fewest, word_level = int(data.counts.min()), isinstance(parse_labelled_ref(data.ref), WordLabels)
    if word_level and fewest >= 2 * GROUPS:
        examples = min(examples, fewest // 2)
    if fewest < 2 * examples:
        enough = fewest >= 2 * GROUPS
        advice = f"set 'examples' to {fewest // 2} or less" if enough else f"give {2 * GROUPS} of each at least"
        raise DataError(
            f"{data.ref!r} has {fewest} examples of {data.classes[int(data.counts.argmin())]!r}, but two halves of "
            f"{examples} need {2 * examples} of every concept; {advice}, or leave the dataset out."
        )
    n = examples * len(data.classes)
    rng = context.rng("concept_separability:split", data.content_hash)
    rows = np.concatenate(split_labelled(data, rng, train=n, test=n))
    labels = data.labels[rows]
    rng = context.rng("concept_separability:permutations", data.content_hash)
    halves = labels.reshape(2, n)
    orders = [np.concatenate([rng.permutation(half) for half in halves]) for _ in range(permutations)]
    return ConceptSet(
        name=name,
        texts=[data.texts[row] for row in rows],
        labels=torch.from_numpy(labels),
        groups=torch.from_numpy(_groups(halves, len(data.classes))),
        permutations=torch.from_numpy(np.stack(orders)),
        concepts=data.classes,
        word_level=word_level,
    )


def _groups(halves: np.ndarray, n_classes: int) -> np.ndarray:
    """Deal the examples of each class in each half out to its groups; ``halves`` holds labels ``[2, examples]``."""
    groups = np.empty_like(halves)
    for half, labels in enumerate(halves):
        for label in range(n_classes):
            members = np.flatnonzero(labels == label)
            groups[half, members] = half * GROUPS + np.arange(len(members)) % GROUPS
    return groups.reshape(-1)
