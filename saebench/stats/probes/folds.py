"""How a training set is divided to choose a hyper-parameter, by the rule of arXiv 2502.16681."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

NO_SELECTION = 3  # up to this many examples, nothing is chosen
LEAVE_PAIR_OUT = 12  # up to this many examples, each pair of a positive and a negative is left out once
SINGLE_SPLIT = 128  # from this many examples on, there is one validation set
_FOLDS = 6
_VALIDATION_SHARE, _VALIDATION_MOST = 0.2, 100

Masks = list[NDArray[np.bool_]]


def folds(y: NDArray[np.bool_], rng: np.random.Generator) -> Masks:
    """Return the training masks ``[n]`` of the folds of ``y[n]``; the examples outside a mask validate.

    Up to 3 examples have no folds. Up to 12 have one fold for each pair of a positive and a negative, which is left
    out. Below 128 there are six stratified folds, and from 128 on a single stratified validation set of a fifth of the
    examples, at most 100. Folds that lack a class on either side are dropped, because their AUC is not defined, so the
    list may be empty.
    """
    y = np.asarray(y, bool)
    n = len(y)
    if n <= NO_SELECTION:
        return []
    if n <= LEAVE_PAIR_OUT:
        validation = [np.isin(np.arange(n), pair) for pair in product(np.flatnonzero(y), np.flatnonzero(~y))]
    elif n < SINGLE_SPLIT:
        fold = np.empty(n, np.int64)
        fold[np.concatenate([rng.permutation(np.flatnonzero(y == side)) for side in (True, False)])] = np.arange(n)
        validation = [fold % _FOLDS == number for number in range(_FOLDS)]
    else:
        validation = [_stratified(y, min(int(_VALIDATION_SHARE * n), _VALIDATION_MOST), rng)]
    return [~apart for apart in validation if _both(y[apart]) and _both(y[~apart])]


def _stratified(y: NDArray[np.bool_], size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a mask of ``size`` rows with the class shares of ``y``; a class with two rows in ``y`` has one there."""
    positive, negative = rng.permutation(np.flatnonzero(y)), rng.permutation(np.flatnonzero(~y))
    n_positive = int(np.clip(round(size * len(positive) / len(y)), 1, size - 1))
    apart = np.zeros(len(y), bool)
    apart[positive[:n_positive]] = True
    apart[negative[: size - n_positive]] = True
    return apart


def _both(y: NDArray[np.bool_]) -> bool:
    return bool(y.any() and not y.all())
