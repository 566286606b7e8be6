"""Measurements of reconstruction, sparsity and loss, and what is not scored."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from saebench.evaluation import Report
from saebench.evaluation.report import Ratio
from saebench.passes.clean import CleanPass, Losses
from saebench.sae.protocol import SAE
from saebench.stats.intervals import mean_estimate
from saebench.tasks.core.geometry import weight_cosines
from saebench.tasks.core.scoring import Scores

# Shares of what an ablation costs, and why one is not scored.
_RECOVERED = {
    "ce_recovered_zero": "zero ablation does not raise the cross-entropy",
    "ce_recovered_mean": "mean ablation does not raise the cross-entropy",
    "kl_recovered": "zero ablation does not move the distribution",
}


def report_scores(report: Report, scores: Scores, clean: CleanPass, d_in: int) -> None:
    """Add every ratio of sums over sequences, and the shares of latents. ``d_in`` is the width that the SAE reads."""
    ratios = _numpy(scores.reconstruction.ratios()) | scores.firing.ratios() | _loss_ratios(clean, scores.spliced)
    ratios["fvu_ordinary"] = _numpy(scores.ordinary.ratios())["fvu"]
    active, tokens = ratios["l0"]
    ratios["l0_share"] = active, tokens * d_in
    for metric, (num, den) in ratios.items():
        why = f"{num.sum():g} / {den.sum():g} is not a number"
        if metric in _RECOVERED and den.sum() <= 0:  # the ablation does no harm: there is nothing to recover
            den, why = np.zeros_like(den), _RECOVERED[metric]
        report.ratio(metric, (num, den), unit="sequence", why=why)
    for site, sums in scores.of_sites.items():
        report.ratio("fvu", _numpy(sums.ratios())["fvu"], unit="sequence", subset=site, why="the site does not vary")
    for metric, estimate in scores.firing.shares().items():
        report.estimate(metric, estimate, unit="sequence", why="no token is evaluated")
    report.array("density", scores.firing.densities().astype(np.float32))


def report_weights(report: Report, sae: SAE) -> None:
    """Add how close the directions of the latents lie to each other."""
    for metric, (values, why) in weight_cosines(sae).items():
        report.estimate(metric, mean_estimate(values), unit="latent", why=why)


def _loss_ratios(clean: CleanPass, spliced: Losses) -> dict[str, Ratio]:
    """CE and KL means (nats per prediction) and the recovered shares, as (numerator, denominator) per sequence."""
    n = clean.predictions
    return _numpy(
        {
            "ce_clean": (clean.ce, n),
            "ce_sae": (spliced.ce, n),
            "ce_zero": (clean.zero.ce, n),
            "ce_mean": (clean.mean.ce, n),
            "ce_recovered_zero": (clean.zero.ce - spliced.ce, clean.zero.ce - clean.ce),
            "ce_recovered_mean": (clean.mean.ce - spliced.ce, clean.mean.ce - clean.ce),
            "kl_sae": (spliced.kl, n),
            "kl_zero": (clean.zero.kl, n),
            "kl_mean": (clean.mean.kl, n),
            "kl_recovered": (clean.zero.kl - spliced.kl, clean.zero.kl),
        }
    )


def _numpy(ratios: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Ratio]:
    return {metric: (num.numpy(), den.numpy()) for metric, (num, den) in ratios.items()}
