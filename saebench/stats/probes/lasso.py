"""Logistic regression with an L1 penalty by an interior-point method, for many problems at once.

The objective is scikit-learn's, ``||w||_1 + C sum_i weight_i log(1 + exp(-s_i (x_i . w + b)))`` with ``s = +-1`` and an
intercept that is not penalised. The method is Newton's, on a logarithmic barrier for ``|w_j| <= u_j`` (Koh, Kim & Boyd
2007). It stops by the duality gap, so a converged problem is within the tolerance of its minimum, however badly the
columns are scaled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saebench.stats.probes.logistic import Probes, Problems, Rows, line_search, newton_step, weighted_gram

_TOLERANCE = 1e-6  # of the duality gap, relative to the objective
_ITERATIONS = 150
_GROWTH = 10.0  # the barrier's parameter grows at most by this factor at a time
_LONG_STEP = 0.5  # a step at least this long means that the current barrier problem is almost solved
_INSIDE = 0.99  # a step goes at most this share of the way to the barrier


def fit_l1(x: Tensor, y: Tensor, weight: Tensor, c: Tensor) -> Probes:
    """Fit a probe for each of ``d`` datasets and ``g`` values of C.

    A problem has converged if its duality gap is at most 1e-6 of its objective. One that lacks a class has no finite
    intercept and does not converge. Coefficients that the penalty should make zero are tiny rather than exactly 0.

    Args:
        x: The features, ``[d, n, k]`` in float64.
        y: The labels, ``[d, n]``, 0 or 1.
        weight: The weight of each row, ``[d, n]``; rows of weight 0 are ignored.
        c: The values of C, ``[d, g]``.
    """
    problems = Problems.of(x, y, weight, c)
    count, k = len(problems.c), x.shape[2]
    w, b = x.new_zeros(count, k), problems.log_odds()
    u, t, last = x.new_zeros(count, k), x.new_zeros(count), x.new_ones(count)
    converged = torch.zeros(count, dtype=torch.bool, device=x.device)
    active = problems.with_both_classes().nonzero()[:, 0]
    for iteration in range(_ITERATIONS):
        keep: list[Tensor] = []
        for part in active.split(problems.block):
            xs, p = x[problems.data[part]], problems.rows(part)
            margin = (xs @ w[part, :, None])[:, :, 0] + b[part, None]
            value, residual, curvature = p.loss(margin)
            objective = value + w[part].abs().sum(-1)
            gap = objective - _dual(xs, p, residual)
            done = gap <= _TOLERANCE * objective
            converged[part] = done
            tiny = torch.finfo(x.dtype).tiny
            if iteration == 0:  # begin with a box about as wide as the penalty allows
                u[part] = (gap / k).clamp(min=tiny)[:, None].expand(-1, k)
                t[part] = 2 * k / gap.clamp(min=tiny)
            else:
                wanted = torch.minimum(2 * k * _GROWTH / gap.clamp(min=tiny), _GROWTH * t[part])
                t[part] = torch.where(last[part] >= _LONG_STEP, torch.maximum(wanted, t[part]), t[part])
            going = ~done
            if not bool(going.any()):
                continue
            part, xs, p = part[going], xs[going], Rows(p.y[going], p.scale[going])
            state = (w[part], u[part], b[part], t[part])
            derivatives = (residual[going], curvature[going])
            w[part], u[part], b[part], last[part] = _step(xs, p, state, margin[going], derivatives)
            keep.append(part[last[part] > 0])
        active = torch.cat(keep) if keep else active[:0]
        if not len(active):
            break
    return problems.probes(w, b, converged)


def _dual(x: Tensor, rows: Rows, residual: Tensor) -> Tensor:
    """Return a lower bound ``[p]`` of the objective: the dual at a feasible point made from the ``residual``."""
    positive = rows.y > 0
    up, down = (-residual * positive).sum(1), (residual * ~positive).sum(1)
    least = torch.minimum(up, down)[:, None]
    # The intercept is not penalised, so positives and negatives must have the same total weight. Shrinking one side
    # keeps each value within its bounds.
    balanced = residual * torch.where(positive, _over(least, up[:, None]), _over(least, down[:, None]))
    reach = (balanced[:, None] @ x)[:, 0].abs().amax(-1)
    balanced = balanced * (1 / reach.clamp(min=1))[:, None]
    share = _over(balanced.abs(), rows.scale).clamp(0, 1)
    return (rows.scale * (torch.special.entr(share) + torch.special.entr(1 - share))).sum(1)


def _over(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, or 0 where b is not above 0."""
    return torch.where(b > 0, a / b.clamp(min=torch.finfo(b.dtype).tiny), 0)


def _step(
    x: Tensor,
    rows: Rows,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    margin: Tensor,
    derivatives: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make one Newton step on ``t * objective + barrier``.

    Returns:
        The new ``w``, ``u`` and ``b``, and the length of the step, which is 0 if no step lowers the value.
    """
    w, u, b, t = state
    residual, curvature = (t[:, None] * part for part in derivatives)
    inside = (u - w) * (u + w)
    gradient_w = (residual[:, None] @ x)[:, 0] + 2 * w / inside
    gradient_u = t[:, None] - 2 * u / inside
    diagonal, mixed = 2 * (u**2 + w**2) / inside**2, -4 * u * w / inside**2
    gram, mean = weighted_gram(x, curvature)
    gram.diagonal(dim1=1, dim2=2).add_(2 / (u**2 + w**2))  # diagonal - mixed^2 / diagonal
    reduced = gradient_w - mixed / diagonal * gradient_u
    dw, db, singular = newton_step(gram, mean, curvature.sum(1), reduced, residual.sum(1))
    du = -(gradient_u + mixed * dw) / diagonal
    slope = (gradient_w * dw).sum(-1) + (gradient_u * du).sum(-1) + residual.sum(1) * db
    dm = (x @ dw[:, :, None])[:, :, 0] + db[:, None]

    def at(step: Tensor) -> Tensor:
        s = step[:, None]
        ws, us = w + s * dw, u + s * du
        barrier = -((us - ws).log() + (us + ws).log()).sum(-1)
        return t * (rows.value(margin + s * dm) + us.sum(-1)) + barrier

    falling = torch.maximum((dw - du) / (u - w), (-dw - du) / (u + w)).amax(-1)  # 1 if a full step ends on the barrier
    longest = torch.where(falling > 0, (_INSIDE / falling).clamp(max=1), 1.0)
    step = line_search(at, at(torch.zeros_like(t)), slope, longest).masked_fill(singular, 0)
    s = step[:, None]
    return w + s * dw, u + s * du, b + step * db, step
