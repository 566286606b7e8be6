"""The regimes of 2502.16681 in which labels are few, imbalanced or wrong: draws from the examples of a dataset.

A draw depends on the labels and a random generator alone, whose seed comes from the content of the dataset, so every
SAE and the dense probe get the same one. Training examples are drawn from the training examples of the standard regime,
and test examples from its test examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.tasks.sparse_probing.data.examples import ProbeData, Rng
from saebench.tasks.sparse_probing.settings import Regime, SparseProbingSettings

_MIN_TESTED = 5  # test examples of each class; an AUC over fewer says nothing

_Classes = tuple[NDArray[np.int64], NDArray[np.int64]]  # rows of the positives, and of the negatives


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth
class Draw:
    """Which examples a probe is trained and tested on at one level of a regime; None stands for all of them."""

    level: str  # the subset under which it is reported, such as "n=16"
    content: str  # of the drawn examples; it seeds the folds
    train: Tensor | None = None
    test: Tensor | None = None
    y_train: Tensor | None = None  # labels in place of their own

    def from_data(self, data: ProbeData) -> ProbeData:
        """The drawn examples of ``data``."""
        return data.subset(self.content, self.train, self.test, self.y_train)


def draws(regime: Regime, data: ProbeData, settings: SparseProbingSettings, rng: Rng) -> Iterator[Draw]:
    """Draw from a dataset at every level of ``regime``. In the regime ``ood`` one draw takes everything."""
    if regime == "scarcity":
        return scarcity(data, settings.scarcity_sizes, settings.resamples, rng)
    if regime == "imbalance":
        return imbalance(data, settings.imbalance_shares, 1, rng)
    if regime == "noise":
        return noise(data, settings.noise_shares, 1, rng)
    return iter([Draw("", f"{data.content}:{regime}")])


def levels(regime: Regime, settings: SparseProbingSettings) -> list[str]:
    """The levels of ``regime`` in their order, also those for which no dataset has enough examples."""
    return {
        "scarcity": [_size_level(size) for size in settings.scarcity_sizes],
        "imbalance": [_imbalance_level(share) for share in settings.imbalance_shares],
        "noise": [_noise_level(share) for share in settings.noise_shares],
        "ood": [""],
    }[regime]


def scarcity(data: ProbeData, sizes: Sequence[int], resamples: int, rng: Rng) -> Iterator[Draw]:
    """Draw ``resamples`` balanced training sets of each size; the test set stays as it is.

    A size for which a class has too few examples is left out.
    """
    classes = _classes(data.y_train)
    for size in sizes:
        wanted = (size - size // 2, size // 2)
        if any(not 1 <= count <= len(rows) for count, rows in zip(wanted, classes, strict=True)):
            continue
        for number in range(resamples):
            draw = rng("scarcity", data.content, size, number)
            content = f"{data.content}:scarcity:{size}:{number}"
            yield Draw(_size_level(size), content, train=_drawn_rows(wanted, classes, draw))


def imbalance(data: ProbeData, shares: Sequence[float], resamples: int, rng: Rng) -> Iterator[Draw]:
    """Draw training and test sets with each share of positives.

    All have the size that the most imbalanced of ``shares`` allows, so that only the share differs between them. A
    share that leaves a class without a training example, or with fewer than 5 test examples, is left out.
    """
    classes = _classes(data.y_train), _classes(data.y_test)
    sizes = [_common_size(rows, shares) for rows in classes]
    for share in shares:
        train, test = (_class_counts(size, share) for size in sizes)
        if min(train) < 1 or min(test) < _MIN_TESTED:
            continue
        for number in range(resamples):
            draw = rng("imbalance", data.content, share, number)
            content = f"{data.content}:imbalance:{share:g}:{number}"
            train_rows, test_rows = _drawn_rows(train, classes[0], draw), _drawn_rows(test, classes[1], draw)
            yield Draw(_imbalance_level(share), content, train_rows, test_rows)


def noise(data: ProbeData, shares: Sequence[float], resamples: int, rng: Rng) -> Iterator[Draw]:
    """Flip each share of the training labels (rounded down), as annotators who err would; test labels stay.

    A draw whose training labels end up in one class is left out.
    """
    labels = data.y_train.cpu().numpy().astype(bool)
    for share in shares:
        for number in range(resamples):
            draw = rng("noise", data.content, share, number)
            content = f"{data.content}:noise:{share:g}:{number}"
            flipped = labels.copy()
            # The small number keeps 0.29 * 100, which is a little below 29, from being rounded down to 28.
            flipped[draw.permutation(len(labels))[: int(share * len(labels) + 1e-9)]] ^= True
            if flipped.any() and not flipped.all():
                yield Draw(_noise_level(share), content, y_train=torch.from_numpy(flipped).to(data.y_train.device))


def _size_level(size: int) -> str:
    return f"n={size}"


def _imbalance_level(share: float) -> str:
    return f"positive={share:g}"


def _noise_level(share: float) -> str:
    return f"flipped={share:g}"


def _classes(y: Tensor) -> _Classes:
    labels = y.cpu().numpy().astype(bool)
    return np.flatnonzero(labels), np.flatnonzero(~labels)


def _drawn_rows(counts: tuple[int, int], classes: _Classes, rng: np.random.Generator) -> Tensor:
    """That many rows of each class, without repetition and in random order."""
    drawn = [rng.permutation(rows)[:count] for count, rows in zip(counts, classes, strict=True)]
    return torch.from_numpy(rng.permutation(np.concatenate(drawn)))


def _class_counts(size: int, share: float) -> tuple[int, int]:
    """How many positives and negatives a set of ``size`` examples with this share of positives has."""
    positive = round(share * size)
    return positive, size - positive


def _common_size(classes: _Classes, shares: Sequence[float]) -> int:
    """The largest size at which every share of positives can be drawn."""
    positive, negative = map(len, classes)
    size = positive + negative
    while size and any(
        wanted > available
        for share in shares
        for wanted, available in zip(_class_counts(size, share), (positive, negative), strict=True)
    ):
        size -= 1
    return size
