"""The choice of C by validation AUC, the final fit to all training rows, and the test, for many problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.stats.probes.lasso import fit_l1
from saebench.stats.probes.logistic import Penalty, Probes, fit_l2
from saebench.stats.probes.scores import accuracy, auc, weighted_f1

Scaling = Literal["none", "rms", "standard"]
DEFAULT_C = 1.0  # for problems without folds


@dataclass(frozen=True)
class Fold:
    """The data of one fit: the rows in ``train`` are fitted, and the others are scored."""

    x: Tensor  # [n, k]
    y: Tensor  # [n] bool
    train: Tensor  # [n] bool


@dataclass(frozen=True)
class Problem:
    """The fit that is tested, and the folds by which its C is chosen. Without folds, C is `DEFAULT_C`."""

    final: Fold
    folds: tuple[Fold, ...]

    @property
    def size(self) -> int:
        """The number of entries of the features of all fits."""
        return sum(fold.x.numel() for fold in (self.final, *self.folds))

    def narrow(self, k: int) -> Problem:
        """Return the problem with the first ``k`` columns only, or with all of them if ``k`` is 0."""
        if not k:
            return self
        final, *rest = (replace(fold, x=fold.x[:, :k]) for fold in (self.final, *self.folds))
        return Problem(final, tuple(rest))


@dataclass
class Outcome:
    """The chosen C of each problem, its validation AUC and its test scores, ``[problems]`` each."""

    val_auc: NDArray[np.float64]  # the mean over folds, or the training AUC if there are no folds
    auc: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    f1: NDArray[np.float64]
    c: NDArray[np.float64]
    fits: int  # the number of fits made for all problems
    unconverged: int  # the number of those that did not converge

    @classmethod
    def joined(cls, parts: Sequence[Outcome]) -> Outcome:
        """Join the outcomes of consecutive problems."""

        def column(name: str) -> NDArray[np.float64]:
            return np.concatenate([np.empty(0), *(getattr(part, name) for part in parts)])

        scores = (column("val_auc"), column("auc"), column("accuracy"), column("f1"), column("c"))
        return cls(*scores, sum(part.fits for part in parts), sum(part.unconverged for part in parts))


def choose_and_test(problems: Sequence[Problem], penalty: Penalty, cs: Sequence[float], scaling: Scaling) -> Outcome:
    """Fit every fold with every C, choose the C with the best mean AUC, fit again on all training rows, and test.

    If several values of C have the same mean AUC, the first is chosen. Columns are always centred, which changes
    nothing but the intercept, because the intercept is not penalised.

    Args:
        problems: The problems.
        penalty: The penalty on the coefficients.
        cs: The values of C to choose from.
        scaling: How the columns of each fit are scaled by its training rows. "rms" divides all columns by one number,
            the root mean square of their deviations, so that the units of the activations do not matter. "standard"
            divides each column by its standard deviation.
    """
    count = len(problems)
    folds = [fold for problem in problems for fold in problem.folds]
    problem_of_fold = np.repeat(np.arange(count), [len(problem.folds) for problem in problems])
    fits = unconverged = 0

    sums, weights = np.zeros((count, len(cs))), np.zeros(count)
    for rows, batch in _batches(folds):
        grid = torch.tensor(cs, dtype=torch.float64, device=batch.fitted.x.device).expand(len(rows), -1)
        probes = batch.fit(grid, penalty, scaling)
        scores = auc(probes.margins(batch.scored.x), batch.scored.y[:, None], batch.scored.present[:, None])
        np.add.at(sums, problem_of_fold[rows], scores.cpu().numpy())
        np.add.at(weights, problem_of_fold[rows], 1)
        fits, unconverged = fits + grid.numel(), unconverged + int((~probes.converged).sum())
    chosen_by = weights > 0
    with np.errstate(invalid="ignore"):
        means = sums / weights[:, None]
    # Means are rounded, so that equal ones are equal in whatever order they were summed.
    best = np.argmax(np.where(np.isfinite(means), means.round(9), -1.0), axis=1)
    c = np.where(chosen_by, np.asarray(cs)[best], DEFAULT_C)
    val_auc = np.where(chosen_by, means[np.arange(count), best], np.nan)
    result = Outcome(val_auc, np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan), c, 0, 0)

    for rows, batch in _batches([problem.final for problem in problems]):
        probes = batch.fit(torch.from_numpy(c[rows, None]).to(batch.fitted.x.device), penalty, scaling)
        margins, y, present = probes.margins(batch.scored.x)[:, 0], batch.scored.y, batch.scored.present
        result.auc[rows] = auc(margins, y, present).cpu()
        result.accuracy[rows] = accuracy(margins > 0, y, present).cpu()
        result.f1[rows] = weighted_f1(margins > 0, y, present).cpu()
        on_training = auc(probes.margins(batch.fitted.x)[:, 0], batch.fitted.y, batch.fitted.present).cpu().numpy()
        result.val_auc[rows] = np.where(chosen_by[rows], result.val_auc[rows], on_training)
        fits, unconverged = fits + len(rows), unconverged + int((~probes.converged).sum())
    return replace(result, fits=fits, unconverged=unconverged)


@dataclass(frozen=True)
class _Rows:
    """The rows of several folds, padded to one length."""

    x: Tensor  # [p, n, k] float64
    y: Tensor  # [p, n] bool
    present: Tensor  # [p, n] bool, False for padding

    @classmethod
    def padded(cls, xs: Sequence[Tensor], ys: Sequence[Tensor]) -> _Rows:
        n, device = max(map(len, ys)), xs[0].device
        x = torch.zeros(len(xs), n, xs[0].shape[1], dtype=torch.float64, device=device)
        y, present = torch.zeros(2, len(xs), n, dtype=torch.bool, device=device)
        for at, (features, labels) in enumerate(zip(xs, ys, strict=True)):
            x[at, : len(labels)], y[at, : len(labels)], present[at, : len(labels)] = features, labels, True
        return cls(x, y, present)


@dataclass(frozen=True)
class _Batch:
    """Folds that are fitted together."""

    fitted: _Rows
    scored: _Rows

    def fit(self, c: Tensor, penalty: Penalty, scaling: Scaling) -> Probes:
        """Return the probes for ``c[p, g]``. All rows are centred and scaled in place, by the fitted rows."""
        x, weight = self.fitted.x, self.fitted.present.double()
        mean = ((weight[:, None] @ x)[:, 0] / weight.sum(1, keepdim=True))[:, None]
        scale = feature_scale(x, scaling, weight)[:, None]
        for part in (x, self.scored.x):
            part.sub_(mean).div_(scale)
        return (fit_l1 if penalty == "l1" else fit_l2)(x, self.fitted.y.double(), weight, c)


def _batches(folds: Sequence[Fold]) -> list[tuple[NDArray[np.int64], _Batch]]:
    """Divide folds into batches of similar shape, and return the numbers of each batch's folds and the batch.

    Padding at most doubles the rows that are fitted.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for number, fold in enumerate(folds):
        groups.setdefault((fold.x.shape[1], int(fold.train.sum()).bit_length()), []).append(number)
    batches = []
    for group in groups.values():
        members = [folds[number] for number in group]
        fitted = _Rows.padded([fold.x[fold.train] for fold in members], [fold.y[fold.train] for fold in members])
        scored = _Rows.padded([fold.x[~fold.train] for fold in members], [fold.y[~fold.train] for fold in members])
        batches.append((np.array(group), _Batch(fitted, scored)))
    return batches


def feature_scale(x: Tensor, scaling: Scaling, weight: Tensor | None = None) -> Tensor:
    """Return the numbers ``[p, k]`` to divide columns by, which are 1 for constant columns.

    Args:
        x: The features, ``[p, n, k]``.
        scaling: The kind of scaling; see `choose_and_test`.
        weight: The weight of each row, ``[p, n]``; by default all rows count.
    """
    if scaling == "none":
        return x.new_ones(len(x), x.shape[-1])
    rows = x.new_ones(x.shape[:2]) if weight is None else weight.to(x.dtype)
    mean = (rows[:, :, None] * x).sum(1) / rows.sum(1, keepdim=True)
    variance = (rows[:, :, None] * (x - mean[:, None]) ** 2).sum(1) / rows.sum(1, keepdim=True)
    if scaling == "rms":
        variance = variance.mean(-1, keepdim=True).expand_as(variance)
    return torch.where(variance > 0, variance.sqrt(), 1.0)
