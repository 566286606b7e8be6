"""Measurements of how well the error is predicted, of what that is worth, and of how two SAEs agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from saebench.evaluation import Report
from saebench.passes.clean import CleanPass
from saebench.stats.linear import FITS
from saebench.stats.residuals import Ratio, ResidualSums
from saebench.tasks.dark_matter.scoring.evaluation import ErrorScores, ErrorSums
from saebench.tasks.dark_matter.scoring.fit import FitInputs
from saebench.tasks.dark_matter.scoring.splice import LINEAR, RANDOM, SAE_ALONE

_ORDINARY = "ordinary_tokens"
_NORM_METRICS = ("norm_r2", "norm_squared_r2", "log_norm_r2")  # in the order of `scoring.errors.norms`
_EXACT = "the reconstruction is exact up to rounding, so there is no error to predict"


def report_errors(report: Report, scores: ErrorScores) -> None:
    """Add L0, FVU with and without what the activation predicts, and R^2 of the error vector."""
    exact = scores.every.exact
    why = _EXACT if exact else "the activations or the error do not vary"
    report.ratio("l0", (scores.l0, scores.every.target.tokens.numpy()), unit="sequence", why=why)
    for fit in FITS:
        _report_fit(report, scores.every, fit, _subset(fit), why)
    _report_fit(report, scores.ordinary, "intercept", _ORDINARY, why)
    for fit in FITS:
        estimate = scores.every.error.mean_r2(fit)
        estimate = replace(estimate, value=np.nan) if exact else estimate
        why = _EXACT if exact else "no dimension varies"
        report.estimate("error_r2_per_dimension", estimate, unit="sequence", why=why, subset=_subset(fit))


def report_norms(report: Report, scores: ErrorScores, from_loss: ResidualSums) -> None:
    """Add R^2 of the three norms of the error, predicted from the activation and from simpler things."""
    exact = scores.every.exact
    why = _EXACT if exact else "it does not vary, or it is the logarithm of an error of 0 on some token"
    # A centred fit lacks the mean of a norm, which is most of it, so its R^2 would be far below 0 and mean nothing.
    names = [name for name in scores.every.norms.predictions if name != "centred"]
    predictions = [(_subset(name), scores.every.norms, name) for name in names]
    predictions += [(_ORDINARY, scores.ordinary.norms, "intercept"), ("loss", from_loss, "loss")]
    for column, metric in enumerate(_NORM_METRICS):
        for subset, sums, name in predictions:
            num, den = sums.r2(name, slice(column, column + 1))
            parts = _not_scored(den) if exact else (num, den)
            report.ratio(metric, parts, unit="sequence", why=why, subset=subset)


def report_losses(report: Report, clean: CleanPass, losses: Mapping[str, Tensor], *, exact: bool) -> None:
    """Add cross-entropies in nats per prediction, and the share of the SAE's damage that is undone.

    Args:
        report: Takes the measurements.
        clean: The clean pass.
        losses: The cross-entropy of each sequence under each condition; NaN where nothing was spliced.
        exact: Whether the reconstruction is exact up to rounding.
    """
    why = _EXACT if exact else "splicing the SAE in does not raise the cross-entropy"
    clean_ce, predictions = clean.ce.numpy(), clean.predictions.numpy()
    alone = losses[SAE_ALONE].numpy()
    damage = alone - clean_ce
    report.ratio("ce_clean", (clean_ce, predictions), unit="sequence", why=why)
    for condition, ce in losses.items():
        parts = (ce.numpy(), predictions) if bool(ce.isfinite().all()) else _not_scored(damage)
        report.ratio(f"ce_{condition}", parts, unit="sequence", why=why)
    for condition, subset in ((LINEAR, ""), (RANDOM, "random_direction")):
        if condition in losses:
            undone = alone - losses[condition].numpy()
            parts = (undone, damage) if damage.sum() > 0 else _not_scored(damage)
            report.ratio("ce_recovered_by_linear", parts, unit="sequence", why=why, subset=subset)


def report_inputs(report: Report, inputs: FitInputs) -> None:
    """Add the condition number of the activations that errors are predicted from."""
    why = "the covariance of the activations is singular"
    report.point("condition_number", inputs.solver.condition, inputs.solver.inputs.n, unit="token", why=why)


def report_agreement(report: Report, pair: str, ratios: Mapping[str, Ratio]) -> None:
    """Add how well the errors of one SAE of a group predict those of another."""
    for metric, parts in ratios.items():
        report.ratio(metric, parts, unit="sequence", why="the norm of the error does not vary", subset=pair)


def _report_fit(report: Report, sums: ErrorSums, fit: str, subset: str, why: str) -> None:
    total = sums.target.spread()
    error, unexplained = sums.error.squares(), sums.error.error(fit)
    ratios: dict[str, Ratio] = {
        "fvu_nonlinear": (unexplained, total),
        "linear_share": (error - unexplained, total),
        "error_r2": _not_scored(total) if sums.exact else sums.error.r2(fit),
    }
    if fit == "intercept":  # does not depend on the fit
        ratios = {"fvu": (error, total), **ratios}
    for metric, parts in ratios.items():
        report.ratio(metric, parts, unit="sequence", why=why, subset=subset)


def _subset(prediction: str) -> str:
    """The fit with an intercept is the headline."""
    return "" if prediction == "intercept" else prediction


def _not_scored(like: NDArray[np.float64]) -> Ratio:
    """A ratio without a value."""
    return np.zeros_like(like), np.zeros_like(like)
