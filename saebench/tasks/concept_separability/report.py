"""Measurements of separabilities, for the SAE beside the neurons, and the shares of latents behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saebench.evaluation import Report, subset_name
from saebench.stats.intervals import Estimate
from saebench.tasks.concept_separability.data import ConceptSet
from saebench.tasks.concept_separability.distance import Array, Share, difference, distance
from saebench.tasks.concept_separability.scoring.averages import BY_CONCEPT, KEYS, SetScores

_NO_LATENT = "no latent is active on any example"


def report_averages(
    report: Report, ours: Sequence[SetScores], neurons: Sequence[SetScores], examples: int, subset: str = ""
) -> None:
    """Add every average over sets, for the SAE, for the neurons and as their difference, and shares of latents.

    Args:
        report: Takes the measurements.
        ours: The scores of the SAE, one for each set.
        neurons: The scores of the neurons on the same sets.
        examples: How many examples these sets have together.
        subset: The subset that the sets make; "" for the headline.
    """
    for key in KEYS:
        own, theirs = _share(ours, key), _share(neurons, key)
        _add(report, f"separability_{key}", distance(own, examples), subset)
        _add(report, f"neurons_{key}", distance(theirs, examples), subset)
        _add(report, f"separability_{key}_over_neurons", difference(own, theirs, examples), subset)
    for metric, scores in (("significant_share", ours), ("neurons_significant_share", neurons)):
        _add_share(report, metric, [_of_alive(s.n_significant, s) for s in scores], _alive(scores), subset)
    n_latents = len(ours[0].joint)
    _add_share(report, "alive_share", [s.n_alive / n_latents for s in ours], n_latents, subset)
    _add_share(report, "rare_share", [_of_alive(s.n_rare, s) for s in ours], _alive(ours), subset)


def report_concepts(report: Report, concepts: ConceptSet, scores: SetScores, examples: int) -> None:
    """Add the separabilities of the single concepts of a set with ``examples`` examples."""
    for key in BY_CONCEPT:
        for concept in concepts.concepts:
            share = _share([scores], f"{key}/{concept}")
            _add(report, f"separability_{key}", distance(share, examples), subset_name(concepts.name, concept))


def report_latents(report: Report, name: str, scores: SetScores, examples: int) -> None:
    """Add the scores of single latents on the set ``name`` as arrays, and count alive, rare and significant ones."""
    report.array(f"joint_share/{name}", scores.joint)
    report.array(f"p_value/{name}", scores.p_values)
    report.count(f"examples/{name}", examples)
    report.count(f"alive/{name}", scores.n_alive)
    report.count(f"rare/{name}", scores.n_rare)
    report.count(f"significant/{name}", scores.n_significant)


def _share(scores: Sequence[SetScores], key: str) -> Share:
    return Share(np.array([s.value[key] for s in scores]), [s.left_out[key] for s in scores])


def _alive(scores: Sequence[SetScores]) -> int:
    return sum(s.n_alive for s in scores)


def _of_alive(n: int, scores: SetScores) -> float:
    return n / scores.n_alive if scores.n_alive else np.nan


def _add(report: Report, metric: str, measured: tuple[Estimate, Array], subset: str) -> None:
    estimate, contributions = measured
    parts = (contributions, np.ones_like(contributions)) if np.isfinite(estimate.value) else None
    report.estimate(metric, estimate, unit="example", why=_NO_LATENT, subset=subset, parts=parts)


def _add_share(report: Report, metric: str, shares: Sequence[float], n: int, subset: str) -> None:
    """Add a mean share of latents. It describes this SAE on these examples, so it has no interval."""
    report.point(metric, float(np.mean(shares)), n, unit="latent", why=_NO_LATENT, subset=subset)
