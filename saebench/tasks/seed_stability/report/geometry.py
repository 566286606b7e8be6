"""The figures of one comparison of all runs: how many latents are found again, and how close they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation import Report, subset_name
from saebench.stats.proportions import weighted_proportion
from saebench.stats.runs import Pair, over_runs
from saebench.tasks.seed_stability.scoring.geometry import ComparedLatents, GroupComparison, SideComparison
from saebench.tasks.seed_stability.selection import masks, probability
from saebench.tasks.seed_stability.settings import SeedStabilitySettings

_NO_LATENT = "no latent that fires has a direction to compare"


def report_comparison(
    report: Report,
    runs: Sequence[ComparedLatents],
    comparison: GroupComparison,
    settings: SeedStabilitySettings,
    label: str = "",
    *,
    with_shared: bool = True,
) -> None:
    """Add the figures of a comparison.

    Args:
        report: Takes the figures.
        runs: The latents of each run that are compared.
        comparison: Their comparison with each other, or with random dictionaries.
        settings: The thresholds.
        label: What was compared, at the end of every subset; "" for the headline figures.
        with_shared: Whether to add the share of shared latents.
    """

    def probabilities(side: SideComparison, threshold: float) -> NDArray[np.float64]:
        return np.concatenate([probability(side, run, threshold) for run in range(len(runs))])

    for side, part in ((comparison.decoder, ""), (comparison.encoder, "encoder")):
        if side is not None:
            _report_closeness(report, side, subset_name(part, label))
            for threshold in settings.thresholds:
                hits = _finite(probabilities(side, threshold))
                subset = subset_name(f"{threshold:g}", part, label)
                report.estimate("survival", weighted_proportion(hits), unit="latent", why=_NO_LATENT, subset=subset)
    found_again = {
        pair: (float((best >= settings.threshold).sum()), float((~np.isnan(best)).sum()))
        for pair, best in comparison.decoder.best.items()
    }
    report.estimate("stability", over_runs(found_again), unit="run", why=_NO_LATENT, subset=label)
    _report_shares(report, runs, probabilities(comparison.decoder, settings.threshold), settings, label)
    if with_shared:
        _report_shared(report, comparison, settings, label)


def report_over_null(
    report: Report, comparison: GroupComparison, against: GroupComparison, backward: GroupComparison
) -> None:
    """Add by how much the runs' PW-MCC exceeds that with random dictionaries of the same mean and covariance.

    The null of a pair is the mean of both ways, so that it does not depend on which run comes first.

    Args:
        report: Takes the figures.
        comparison: The runs, compared with each other.
        against: The same runs, each compared with random stand-ins of the runs after it.
        backward: The same for the runs in reverse order.
    """
    last = max((run for pair in comparison.decoder.best for run in pair), default=0)
    excess = {}
    for (a, b), matching in comparison.decoder.matched.items():
        null = (against.decoder.matched[a, b].mean + backward.decoder.matched[last - b, last - a].mean) / 2
        excess[a, b] = (matching.mean - null, 1.0)
    why = _NO_LATENT if excess else "no two members have the same width"
    report.estimate("pw_mcc_over_null", over_runs(excess), unit="run", why=why)


def report_pairs(
    report: Report, names: Sequence[str], comparison: GroupComparison, settings: SeedStabilitySettings
) -> None:
    """Add MMCS and PW-MCC of single pairs of the runs called ``names``, and the stability of single runs."""
    decoder = comparison.decoder
    for (a, b), best in sorted(decoder.best.items()):
        report.point("mmcs", _mean(best), 1, unit="run", why=_NO_LATENT, subset=f"{names[a]}->{names[b]}")
    for (a, b), matching in sorted(decoder.matched.items()):
        report.point("pw_mcc", matching.mean, 1, unit="run", why=_NO_LATENT, subset=f"{names[a]}~{names[b]}")
    for run, name in enumerate(names):
        hits = _finite(probability(decoder, run, settings.threshold))
        report.estimate("stability", weighted_proportion(hits), unit="latent", why=_NO_LATENT, subset=name)


def _report_closeness(report: Report, side: SideComparison, subset: str) -> None:
    """Add PW-MCC over pairs and MMCS over ordered pairs."""
    matched = {pair: (matching.mean, 1.0) for pair, matching in side.matched.items()}
    why = _NO_LATENT if matched else "no two members have the same width"
    report.estimate("pw_mcc", over_runs(matched), unit="run", why=why, subset=subset)
    means = {pair: (_mean(best), 1.0) for pair, best in side.best.items()}
    report.estimate("mmcs", over_runs(means), unit="run", why=_NO_LATENT, subset=subset)


def _report_shares(
    report: Report,
    runs: Sequence[ComparedLatents],
    probabilities: NDArray[np.float64],
    settings: SeedStabilitySettings,
    label: str,
) -> None:
    """Add the shares of stable, mixed and unstable latents, plain and weighted, over the latents of all runs."""
    scored = ~np.isnan(probabilities)
    weights: dict[str, NDArray[np.float64] | None] = {
        "": None,
        "frequency": np.concatenate([run.firing.counts for run in runs]).astype(np.float64)[scored],
        "mass": np.concatenate([run.firing.mass for run in runs])[scored],
    }
    for kind, which in masks(probabilities, settings).items():
        for weighting, values in weights.items():
            estimate = weighted_proportion(which[scored].astype(np.float64), values)
            subset = subset_name(weighting, label)
            report.estimate(f"{kind}_share", estimate, unit="latent", why=_NO_LATENT, subset=subset)


def _report_shared(report: Report, comparison: GroupComparison, settings: SeedStabilitySettings, label: str) -> None:
    shares: dict[Pair, tuple[float, float]] = {}
    for pair in comparison.decoder.matched:
        shared = comparison.shared(pair, settings.shared_above)
        if shared is not None:
            shares[pair] = (float(shared.mean()) if len(shared) else np.nan, 1.0)
    why = _NO_LATENT if shares else "it takes encoder directions of every member, and members of the same width"
    report.estimate("shared_share", over_runs(shares), unit="run", why=why, subset=label)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _mean(values: NDArray[np.float64]) -> float:
    finite = _finite(values)
    return float(finite.mean()) if len(finite) else float("nan")
