"""Logistic regression with an L2 penalty by Newton's method, for many problems at once.

The objective is scikit-learn's, ``0.5 ||w||^2 + C sum_i weight_i log(1 + exp(-s_i (x_i . w + b)))`` with ``s = +-1``
and an intercept that is not penalised. A problem is a dataset with one value of C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

Penalty = Literal["l1", "l2"]

_TOLERANCE = 1e-10  # how far the objective may be above its minimum, relative to the objective
_ITERATIONS = 100
_HALVINGS = 40
_ARMIJO = 1e-4  # a step must lower the objective by at least this share of what its slope promises
_ROUNDING = 2.0**-44  # the rounding error of a margin, relative to the sum of its terms
_BLOCK = 2**22  # the float64 numbers of the problems that are solved together


@dataclass(frozen=True)
class Probes:
    """The probes of ``d`` datasets for ``g`` values of C."""

    coef: Tensor  # [d, g, k]
    intercept: Tensor  # [d, g]
    converged: Tensor  # [d, g] bool

    def margins(self, x: Tensor) -> Tensor:
        """Return the log odds ``[d, g, n]`` of the rows ``x[d, n, k]``.

        Log odds that differ by no more than rounding are made equal. A matrix product may give equal rows different
        last bits, and rows are often equal where most latents are 0.
        """
        raw = self.coef @ x.mT + self.intercept[:, :, None]
        size = (self.coef.abs() @ x.abs().amax(-2)[:, :, None])[:, :, 0] + self.intercept.abs()
        ascending, order = raw.sort(-1)
        apart = ascending.diff(dim=-1) > _ROUNDING * size[:, :, None]
        first = torch.nn.functional.pad(apart.cumsum(-1), (1, 0))  # the number of the run of equal margins
        starts = torch.searchsorted(first, first)
        return torch.empty_like(raw).scatter_(-1, order, ascending.gather(-1, starts))


def fit_l2(x: Tensor, y: Tensor, weight: Tensor, c: Tensor) -> Probes:
    """Fit a probe for each of ``d`` datasets and ``g`` values of C.

    A problem has converged if, by Newton's decrement, its objective is above its minimum by at most 1e-10 of itself.
    One that lacks a class has no finite intercept and does not converge. If there are more columns than rows, the fit
    is made in the space that the rows span, which gives the same probes.

    Args:
        x: The features, ``[d, n, k]`` in float64.
        y: The labels, ``[d, n]``, 0 or 1.
        weight: The weight of each row, ``[d, n]``; rows of weight 0 are ignored.
        c: The values of C, ``[d, g]``.
    """
    if x.shape[2] > x.shape[1]:
        bases = torch.stack([row_space(rows) for rows in x])
        inner = fit_l2(x @ bases, y, weight, c)
        return Probes(inner.coef @ bases.mT, inner.intercept, inner.converged)
    problems = Problems.of(x, y, weight, c)
    count, k = len(problems.c), x.shape[2]
    w, b = x.new_zeros(count, k), problems.log_odds()
    converged = torch.zeros(count, dtype=torch.bool, device=x.device)
    active = problems.with_both_classes().nonzero()[:, 0]
    eye = torch.eye(k, dtype=x.dtype, device=x.device)
    for _ in range(_ITERATIONS):
        keep: list[Tensor] = []
        for part in active.split(problems.block):
            xs, p = x[problems.data[part]], problems.rows(part)
            margin = (xs @ w[part, :, None])[:, :, 0] + b[part, None]
            value, residual, curvature = p.loss(margin)
            objective = value + 0.5 * w[part].square().sum(-1)
            gradient = (residual[:, None] @ xs)[:, 0] + w[part]
            gram, mean = weighted_gram(xs, curvature)
            dw, db, singular = newton_step(gram + eye, mean, curvature.sum(1), gradient, residual.sum(1))
            slope = (gradient * dw).sum(-1) + residual.sum(1) * db
            done = -slope / 2 <= _TOLERANCE * objective
            dm = (xs @ dw[:, :, None])[:, :, 0] + db[:, None]

            def at(step: Tensor) -> Tensor:
                return p.value(margin + step[:, None] * dm) + 0.5 * (w[part] + step[:, None] * dw).square().sum(-1)  # noqa: B023

            step = line_search(at, objective, slope, torch.ones_like(b[part]))
            w[part] += step[:, None] * dw
            b[part] += step * db
            converged[part] = done & ~singular
            keep.append(part[~done & ~singular & (step > 0)])
        active = torch.cat(keep) if keep else active[:0]
        if not len(active):
            break
    return problems.probes(w, b, converged)


def row_space(x: Tensor) -> Tensor:
    """Return an orthonormal basis ``[k, r]`` of the space that the rows of ``x[n, k]`` span, where r = min(n, k)."""
    n, k = x.shape
    if n >= k:
        return torch.eye(k, dtype=x.dtype, device=x.device)
    return torch.linalg.qr(x.mT).Q


# ------------------------------------------------------------------ also used for the L1 penalty


@dataclass(frozen=True)
class Rows:
    """The labels and the factors ``C * weight`` of the rows of some problems, ``[p, n]`` each."""

    y: Tensor
    scale: Tensor

    def value(self, margin: Tensor) -> Tensor:
        """Return the weighted loss ``[p]`` at the margins ``[p, n]``."""
        return (self.scale * softplus(torch.where(self.y > 0, -margin, margin))).sum(1)

    def loss(self, margin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss ``[p]``, and its first and second derivatives by the margins, ``[p, n]`` each."""
        # The probability of the wrong label has its own sigmoid, because 1 - p would round it to 0.
        wrong = torch.sigmoid(torch.where(self.y > 0, -margin, margin))
        signed = torch.where(self.y > 0, -wrong, wrong)
        return self.value(margin), self.scale * signed, self.scale * wrong * (1 - wrong)


@dataclass(frozen=True)
class Problems:
    """Every pair of a dataset and a value of C, in one row of ``p`` problems."""

    data: Tensor  # [p], the number of the problem's dataset
    c: Tensor  # [p]
    y: Tensor  # [d, n]
    weight: Tensor  # [d, n]
    block: int  # the number of problems that are solved together
    grid: int  # the number of values of C

    @classmethod
    def of(cls, x: Tensor, y: Tensor, weight: Tensor, c: Tensor) -> Problems:
        """Return the problems of the datasets ``x[d, n, k]`` with the values ``c[d, g]``."""
        d, g = c.shape
        data = torch.arange(d, device=x.device).repeat_interleave(g)
        return cls(data, c.flatten().double(), y, weight, max(1, _BLOCK // max(1, x[0].numel())), g)

    def rows(self, part: Tensor) -> Rows:
        """Return the rows of the problems with the numbers ``part``."""
        data = self.data[part]
        return Rows(self.y[data], self.c[part, None] * self.weight[data])

    def log_odds(self) -> Tensor:
        """Return the intercept ``[p]`` that is best if all coefficients are 0."""
        positive = (self.weight * self.y).sum(1)
        odds = positive / (self.weight.sum(1) - positive)
        return odds.log().nan_to_num(0, 0, 0)[self.data]

    def with_both_classes(self) -> Tensor:
        """Return whether each problem has both classes, ``[p]``; the others have no finite intercept."""
        both = ((self.weight * self.y).sum(1) > 0) & ((self.weight * (1 - self.y)).sum(1) > 0)
        return both[self.data]

    def probes(self, w: Tensor, b: Tensor, converged: Tensor) -> Probes:
        """Return the solutions as probes ``[d, g]``."""
        shape = (len(self.y), self.grid)
        return Probes(w.reshape(*shape, -1), b.reshape(shape), converged.reshape(shape))


def weighted_gram(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted scatter ``[p, k, k]`` of ``x[p, n, k]`` around its weighted mean, and the mean ``[p, k]``."""
    total = weight.sum(1).clamp(min=torch.finfo(x.dtype).tiny)
    mean = (weight[:, None] @ x)[:, 0] / total[:, None]
    centred = (x - mean[:, None]) * weight.sqrt()[:, :, None]
    return centred.mT @ centred, mean


def newton_step(
    hessian: Tensor, mean: Tensor, total: Tensor, gradient: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a Newton step, for which the intercept is eliminated.

    Args:
        hessian: The Hessian of ``w`` around the weighted mean, ``[p, k, k]``.
        mean: The weighted mean of the features, ``[p, k]``.
        total: The second derivative by the intercept, ``[p]``.
        gradient: The gradient of ``w``, ``[p, k]``.
        residual: The first derivative by the intercept, ``[p]``.

    Returns:
        The steps ``dw[p, k]`` and ``db[p]``, and whether each Hessian is singular, ``[p]``, where the steps are 0.
    """
    total = total.clamp(min=torch.finfo(total.dtype).tiny)
    factor, info = torch.linalg.cholesky_ex(hessian)
    right = mean * residual[:, None] - gradient
    dw = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
    db = -residual / total - (mean * dw).sum(-1)
    singular = (info > 0) | ~dw.isfinite().all(-1) | ~db.isfinite()
    return dw.masked_fill(singular[:, None], 0), db.masked_fill(singular, 0), singular


def line_search(at: Callable[[Tensor], Tensor], objective: Tensor, slope: Tensor, step: Tensor) -> Tensor:
    """Return steps that are short enough to lower the objective as its slope promises (Armijo's rule).

    Args:
        at: Returns the objective ``[p]`` after steps of the lengths ``[p]``.
        objective: The objective before the step, ``[p]``.
        slope: The derivative of the objective by the length of the step, ``[p]``.
        step: The lengths to begin with, ``[p]``.

    Returns:
        Each length, halved until the rule holds, or 0 if it never does, ``[p]``.
    """
    slack = 1e-14 * objective.abs()  # the increase that rounding may cause
    for _ in range(_HALVINGS):
        bad = ~(at(step) <= objective + _ARMIJO * step * slope + slack)
        if not bool(bad.any()):
            return step
        step = torch.where(bad, step / 2, step)
    return step.masked_fill(bad, 0)
