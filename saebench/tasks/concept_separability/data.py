"""Labelled sets as the task uses them: equally many examples of each concept, in two halves of ten groups each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from saebench.data.labelled import split_labelled
from saebench.data.labelled_ref import WordLabels, parse_labelled_ref
from saebench.errors import DataError
from saebench.passes.context import TaskContext
from saebench.passes.examples import Examples
from saebench.passes.labelled import labelled, set_name
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
    """Return one concept set for each dataset of the settings; all SAEs share them.

    Raises as `concept_set` does, and UsageError when the language model has fewer positions than ``context_length``.
    """

    def read(ref: str) -> ReadConceptSet:
        concepts = concept_set(ref, context, settings.examples, settings.permutations)
        return ReadConceptSet(concepts.to(context.lm.device), context.examples(concepts.texts, settings.context_length))

    key = (settings.examples, settings.permutations, settings.context_length)
    return [context.shared(("concept_separability", "set", ref, *key), partial(read, ref)) for ref in settings.datasets]


def concept_set(ref: str, context: TaskContext, examples: int, permutations: int) -> ConceptSet:
    """Draw examples of each concept of a labelled set by the seed of the context: the same ones for every SAE.

    Args:
        ref: The reference of the labelled set.
        context: Reads the set, and gives the random generators.
        examples: How many examples of each concept each half gets.
        permutations: How many permutations of the labels are drawn.

    Raises:
        UsageError: The reference is wrong.
        AssetError: The asset that it names is missing or damaged.
        DataError: The set is unreadable, or a concept has fewer than ``2 * examples`` examples.
    """
    data = labelled(context, ref)
    if (fewest := int(data.counts.min())) < 2 * examples:
        enough = fewest >= 2 * GROUPS
        advice = f"set 'examples' to {fewest // 2} or less" if enough else f"give {2 * GROUPS} of each at least"
        raise DataError(
            f"{ref!r} has {fewest} examples of {data.classes[int(data.counts.argmin())]!r}, but two halves of "
            f"{examples} need {2 * examples} of every concept; {advice}, or leave the dataset out."
        )
    n = examples * len(data.classes)
    rng = context.rng(f"concept_separability:split:{data.content_hash}")
    rows = np.concatenate(split_labelled(data, rng, train=n, test=n))
    labels = data.labels[rows]
    rng = context.rng(f"concept_separability:permutations:{data.content_hash}")
    halves = labels.reshape(2, n)
    orders = [np.concatenate([rng.permutation(half) for half in halves]) for _ in range(permutations)]
    return ConceptSet(
        name=set_name(ref),
        texts=[data.texts[row] for row in rows],
        labels=torch.from_numpy(labels),
        groups=torch.from_numpy(_groups(halves, len(data.classes))),
        permutations=torch.from_numpy(np.stack(orders)),
        concepts=data.classes,
        word_level=isinstance(parse_labelled_ref(ref), WordLabels),
    )


def _groups(halves: np.ndarray, n_classes: int) -> np.ndarray:
    """Deal the examples of each class in each half out to its groups; ``halves`` holds labels ``[2, examples]``."""
    groups = np.empty_like(halves)
    for half, labels in enumerate(halves):
        for label in range(n_classes):
            members = np.flatnonzero(labels == label)
            groups[half, members] = half * GROUPS + np.arange(len(members)) % GROUPS
    return groups.reshape(-1)
