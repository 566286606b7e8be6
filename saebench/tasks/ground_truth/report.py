"""Measurements of the match with the true features, and what is not scored."""

from __future__ import annotations

import numpy as np

from saebench.evaluation import Report
from saebench.stats.intervals import Estimate, jackknife, mean_estimate, weighted_mean
from saebench.stats.proportions import weighted_proportion
from saebench.tasks.ground_truth.data import BLOCK
from saebench.tasks.ground_truth.scoring import Array, Scores
from saebench.tasks.ground_truth.selection import Alignment


def report_directions(report: Report, alignment: Alignment, chance: Array, threshold: float, seen: Array) -> None:
    """Add what follows from the directions of the latents alone.

    Args:
        report: The report.
        alignment: The features of the latents.
        chance: The MCC of random directions, for each draw.
        threshold: The similarity from which on a feature counts as recovered.
        seen: How often each feature fires in the samples.
    """
    report.estimate("mcc", mean_estimate(alignment.cosines), unit="latent", why="there are no latents")
    report.estimate("mcc_signed", mean_estimate(alignment.signed), unit="latent", why="there are no latents")
    report.estimate("mcc_chance", mean_estimate(chance), unit="draw", why="there are no latents")
    hits = (alignment.nearest >= threshold).astype(np.float64)
    for subset, weights in (("", None), ("weighted", seen)):
        estimate = weighted_proportion(hits, weights)
        report.estimate("features_recovered", estimate, unit="feature", subset=subset, why="no feature fires")
    tracked = alignment.closest[alignment.closest >= 0]
    share = len(np.unique(tracked)) / len(alignment.closest)
    report.point("uniqueness", share, len(alignment.closest), unit="latent", why=None)
    report.array("closest_feature", alignment.closest.astype(np.int32))
    report.array("feature_cosine", alignment.nearest.astype(np.float32))


def report_samples(report: Report, scores: Scores) -> None:
    """Add what the latents do on the samples."""
    total = scores.fired.sum(0)
    for metric in ("precision", "recall", "f1"):
        values = getattr(scores.closest, metric)
        _means(report, metric, values, total)
        report.estimate(
            metric,
            mean_estimate(getattr(scores.paired, metric)),
            unit="latent",
            subset="one_to_one",
            why="no latent has a direction",
        )
    report.array("f1", scores.closest.f1.astype(np.float32))
    why = "no latent fires together with its feature"
    report.ratio("magnitude_ratio", (scores.recovered, scores.true), unit="block", why=why)
    sums = {metric: (num.numpy(), den.numpy()) for metric, (num, den) in scores.reconstruction.ratios().items()}
    report.ratio("norm_ratio", sums["l2_ratio"], unit="block", why="all activations are 0")
    report.ratio("fvu", sums["fvu"], unit="block", why="the activations do not vary")
    samples = np.full(len(scores.fired), float(BLOCK))
    report.ratio("l0", (scores.fired.sum(1), samples), unit="block", why="there are no samples")
    report.ratio("l0_true", (scores.active, samples), unit="block", why="there are no samples")
    report.estimate("dead_share", _dead_share(scores.fired), unit="block", why=None)


def _means(report: Report, metric: str, values: Array, fired: Array) -> None:
    """Add the mean over all latents, over those that fire, and weighted by how often they fire."""
    report.estimate(metric, mean_estimate(values), unit="latent", why="there are no latents")
    why = "no latent fires"
    report.estimate(metric, mean_estimate(values[fired > 0]), unit="latent", subset="alive", why=why)
    report.estimate(metric, weighted_mean(values, fired), unit="latent", subset="weighted", why=why)


def _dead_share(fired: Array) -> Estimate:
    fires = fired > 0
    blocks = fires.sum(0)
    only_here = fires & (blocks == 1)
    dead = (blocks == 0).mean()
    return jackknife(float(dead), dead + only_here.mean(1))
