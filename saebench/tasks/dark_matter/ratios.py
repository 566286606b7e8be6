"""The numbers of one SAE as (numerator, denominator) per sequence, by metric and subset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from saebench.passes.clean import CleanPass
from saebench.stats.linear import FITS
from saebench.stats.residuals import ResidualSums
from saebench.tasks.dark_matter.errors import NORMS
from saebench.tasks.dark_matter.evaluate import Evaluation, Sums
from saebench.tasks.dark_matter.splice import LINEAR, RANDOM, SAE_ALONE

Ratio = tuple[NDArray[np.float64], NDArray[np.float64]]
Ratios = dict[tuple[str, str], Ratio]  # (metric, subset) -> ...

ORDINARY = "ordinary_tokens"
NORM_METRICS = ("norm_r2", "norm_squared_r2", "log_norm_r2")


def subset_of(fit: str) -> str:
    """The fit with an intercept is the headline."""
    return "" if fit == "intercept" else fit


def error_ratios(found: Evaluation) -> Ratios:
    """FVU with and without what the activation predicts, and R^2 of the error vector."""
    every = found.every
    out: Ratios = {("l0", ""): (found.l0, every.target.tokens.numpy())}
    for sums, fits in ((every, FITS), (found.ordinary, ("intercept",))):
        for fit in fits:
            subset = ORDINARY if sums is found.ordinary else subset_of(fit)
            out |= _of_fit(sums, fit, subset)
    return out


def _of_fit(sums: Sums, fit: str, subset: str) -> Ratios:
    total = sums.target.spread()
    whole, left = sums.error.squares(), sums.error.error(fit)
    out: Ratios = {
        ("fvu_nonlinear", subset): (left, total),
        ("linear_share", subset): (whole - left, total),
        ("error_r2", subset): _none(total) if sums.exact else sums.error.r2(fit),
    }
    return out if fit != "intercept" else {("fvu", subset): (whole, total), **out}


def norm_ratios(found: Evaluation, by_loss: ResidualSums) -> Ratios:
    """R^2 of the three norms of the error, from the activation and from simpler things."""
    out: Ratios = {}
    for column, metric in enumerate(NORM_METRICS):
        at = slice(column, column + 1)
        parts = [
            *((subset_of(name), found.every.norms, name) for name in found.every.norms.predictions),
            (ORDINARY, found.ordinary.norms, "intercept"),
            ("loss", by_loss, "loss"),
        ]
        for subset, sums, name in parts:
            num, den = sums.r2(name, at)
            out[metric, subset] = _none(den) if found.every.exact else (num, den)
    assert len(NORM_METRICS) == NORMS
    return out


def loss_ratios(clean: CleanPass, losses: dict[str, Tensor]) -> Ratios:
    """Cross-entropies in nats per prediction, and the share of the SAE's damage that adding something undoes."""
    n = clean.predictions.numpy()
    alone = losses[SAE_ALONE].numpy()
    damage = alone - clean.ce.numpy()
    out: Ratios = {("ce_clean", ""): (clean.ce.numpy(), n)}
    for condition, ce in losses.items():
        out[f"ce_{condition}", ""] = (ce.numpy(), n) if bool(ce.isfinite().all()) else _none(damage)
    for condition, subset in ((LINEAR, ""), (RANDOM, "random_direction")):
        if condition in losses:
            num = alone - losses[condition].numpy()
            out["ce_recovered_by_linear", subset] = (num, damage) if damage.sum() > 0 else _none(damage)
    return out


def _none(like: NDArray[np.float64]) -> Ratio:
    return np.zeros_like(like), np.zeros_like(like)
