"""Labelled sets as the task uses them: equally many examples of each concept, in two halves of groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from saebench.data.labelled import Labelled, load_labelled, split_labelled
from saebench.data.labelled_ref import WordLabels, parse_labelled_ref
from saebench.data.probes import ASSET
from saebench.errors import DataError
from saebench.passes.context import TaskContext

GROUPS = 10  # of each half; every group holds examples of every concept, equally many of each


@dataclass(frozen=True)
class ConceptSet:
    """Examples of some concepts. Groups below GROUPS are the first half, the others the second."""

    name: str
    content_hash: str
    texts: list[str]
    labels: Int[Tensor, " examples"]
    groups: Int[Tensor, " examples"]
    permutations: Int[Tensor, "permutations examples"]  # of the labels, within each half
    concepts: tuple[str, ...]
    word_level: bool = False  # each concept is a word

    @cached_property
    def group_sizes(self) -> list[int]:
        """Examples of each concept in each group."""
        first = self.groups[self.labels == 0]
        return [int(n) for n in torch.bincount(first, minlength=2 * GROUPS)]

    def to(self, device: torch.device) -> ConceptSet:
        """With its tensors on a device."""
        labels, groups, permutations = (x.to(device) for x in (self.labels, self.groups, self.permutations))
        return replace(self, labels=labels, groups=groups, permutations=permutations)


def labelled(ref: str, context: TaskContext) -> Labelled:
    """The labelled data of ``ref``, read once. Raises UsageError, AssetError, DataError."""
    return context.shared(("labelled", ref), lambda: load_labelled(ref))


def concept_set(ref: str, context: TaskContext, examples: int, permutations: int) -> ConceptSet:
    """``examples`` of each concept of ``ref`` in each half, drawn by the context's seed: the same for every SAE.

    Raises DataError when a concept has fewer than ``2 * examples``, else as `labelled`.
    """
    data = labelled(ref, context)
    if (found := int(data.counts.min())) < 2 * examples:
        enough = found >= 2 * GROUPS
        mend = f"set 'examples' to {found // 2} or less" if enough else f"give {2 * GROUPS} of each at least"
        raise DataError(
            f"{ref!r} has {found} examples of {data.classes[int(data.counts.argmin())]!r}, but two halves of "
            f"{examples} need {2 * examples} of every concept; {mend}, or leave the dataset out."
        )
    n = examples * len(data.classes)
    rng = context.rng(f"concept_separability:split:{data.content_hash}")
    halves = split_labelled(data, rng, train=n, test=n)
    rows = np.concatenate(halves)
    labels = data.labels[rows]
    groups = np.empty(len(rows), np.int64)
    for half in range(2):
        for label in range(len(data.classes)):
            where = half * n + np.flatnonzero(labels[half * n : (half + 1) * n] == label)
            groups[where] = half * GROUPS + np.arange(len(where)) % GROUPS
    rng = context.rng(f"concept_separability:permutations:{data.content_hash}")
    both = labels.reshape(2, n)
    orders = [np.concatenate([rng.permutation(each) for each in both]) for _ in range(permutations)]
    return ConceptSet(
        name=ref.replace(f"asset:{ASSET}/", ""),
        content_hash=data.content_hash,
        texts=[data.texts[row] for row in rows],
        labels=torch.from_numpy(labels),
        groups=torch.from_numpy(groups),
        permutations=torch.from_numpy(np.stack(orders)),
        concepts=data.classes,
        word_level=isinstance(parse_labelled_ref(ref), WordLabels),
    )
