"""Divergences of latents between the concepts of a set, with chance removed: by histograms or by kernel densities.

An estimator is made from the activations of a block of latents. It can be asked for a half of the examples alone, and
for all groups of examples but one.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from saebench.stats.divergence import (
    Divergences,
    adjusted,
    histogram_chance,
    histogram_divergences,
    mass_divergences,
    permutation_p_values,
)
from saebench.stats.histogram import PER_BIN, Activations, quantile_bins
from saebench.stats.kde import GRID, Grids
from saebench.tasks.concept_separability.data import GROUPS, ConceptSet
from saebench.tasks.concept_separability.settings import EstimatorName

_SAME = 1e-12  # divergences of permuted labels may differ from an equal one by this much rounding


class Estimator(Protocol):
    """The divergences of a block of latents."""

    def scores(self, half: int | None = None, without: int | None = None) -> Divergences:
        """Return divergences as shares of their maximum, with chance at 0.

        Args:
            half: 0 or 1 for a half of the examples; None for all of them.
            without: The number of a group that is left out, if any.
        """
        ...

    def p_values(self) -> Tensor:
        """The p-value of each latent's joint divergence on all examples, ``[latents]``."""
        ...


def groups_in(half: int | None, without: int | None) -> list[int]:
    """The numbers of the groups of a half, or of both where it is None, but for the group ``without``."""
    groups = range(2 * GROUPS) if half is None else range(half * GROUPS, (half + 1) * GROUPS)
    return [group for group in groups if group != without]


class HistogramEstimator:
    """Histograms of a bin for zero and quantile bins. Chance is the exact mean over all permutations of the labels."""

    def __init__(self, activations: Activations, concepts: ConceptSet, bins: int) -> None:
        """``bins`` is the largest number of quantile bins."""
        self.concepts, self.n_classes = concepts, len(concepts.concepts)
        self.bins = quantile_bins(activations, bins, PER_BIN)
        cell = concepts.labels * 2 * GROUPS + concepts.groups
        counts = self.bins.counts(cell, self.n_classes * 2 * GROUPS).int()
        self.counts = counts.view(self.bins.n_rows, self.n_classes, 2 * GROUPS)

    @staticmethod
    def latent_bytes(n_classes: int, bins: int) -> int:
        """The memory that one latent takes at the peak."""
        pairs = n_classes * (n_classes - 1) // 2
        return 8 * (bins + 1) * (n_classes * 3 * GROUPS + 4 * n_classes + 2 * pairs)

    def scores(self, half: int | None = None, without: int | None = None) -> Divergences:
        groups = groups_in(half, without)
        counts = self.counts[:, :, groups].sum(-1)
        per_class = sum(self.concepts.group_sizes[group] for group in groups)
        plug_in = histogram_divergences(self.bins, counts, per_class)
        return adjusted(plug_in, histogram_chance(self.bins, counts, per_class), self.n_classes)

    def p_values(self) -> Tensor:
        return permutation_p_values(self.bins, self.concepts.labels, self.n_classes, self.concepts.permutations)


class KDEEstimator:
    """A point mass at zero and a kernel density. Chance is the mean over the permutations of the concept set.

    Where a group is left out, no permutations are drawn again: their mean is taken to be inversely proportional to the
    number of examples.
    """

    def __init__(self, activations: Activations, concepts: ConceptSet, bins: int) -> None:
        """``bins`` is ignored: a kernel density has none."""
        self.concepts, self.n_classes = concepts, len(concepts.concepts)
        self.grids = Grids.of(activations)
        self._chance: dict[int | None, Divergences] = {}
        self._reached: Tensor | None = None  # by how many permutations, [latents]; known once chance is

    @staticmethod
    def latent_bytes(n_classes: int, bins: int) -> int:
        """The memory that one latent takes at the peak."""
        return 8 * GRID * n_classes * 12

    def scores(self, half: int | None = None, without: int | None = None) -> Divergences:
        groups, whole = groups_in(half, without), groups_in(half, None)
        sizes = self.concepts.group_sizes
        plug_in = self._divergences(self.concepts.labels, groups)
        growth = sum(sizes[g] for g in whole) / sum(sizes[g] for g in groups)
        chance = Divergences(*(mean * growth for mean in self._mean(half)))
        return adjusted(plug_in, chance, self.n_classes)

    def p_values(self) -> Tensor:
        self._mean(None)
        assert self._reached is not None
        return (1 + self._reached.double()) / (1 + len(self.concepts.permutations))

    def _mean(self, half: int | None) -> Divergences:
        """The mean divergences over the permutations, with all groups of the half."""
        if half not in self._chance:
            groups = groups_in(half, None)
            own = self._divergences(self.concepts.labels, groups)
            totals, reached = [torch.zeros_like(x) for x in own], torch.zeros_like(own.joint, dtype=torch.int64)
            for labels in self.concepts.permutations:
                permuted = self._divergences(labels, groups)
                reached += permuted.joint >= own.joint - _SAME
                for total, x in zip(totals, permuted, strict=True):
                    total += x
            n = len(self.concepts.permutations)
            joint, rest, pair = (total / n for total in totals)
            # The classes are equal in size, so chance is the same for all: their mean estimates it best.
            self._chance[half] = Divergences(joint, rest.mean(1, keepdim=True).expand_as(rest), pair)
            if half is None:
                self._reached = reached
        return self._chance[half]

    def _divergences(self, labels: Tensor, groups: list[int]) -> Divergences:
        inside = torch.isin(self.concepts.groups, torch.tensor(groups, device=labels.device))
        return mass_divergences(self.grids.masses(torch.where(inside, labels, -1), self.n_classes))


ESTIMATORS: dict[EstimatorName, type[HistogramEstimator] | type[KDEEstimator]] = {
    "histogram": HistogramEstimator,
    "kde": KDEEstimator,
}
