"""What is kept of every latent, for plots and for further analysis, and the counts of latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation import Report
from saebench.stats.proportions import wilson
from saebench.tasks.seed_stability.scoring.geometry import ComparedLatents, GroupComparison
from saebench.tasks.seed_stability.selection import MemberStability


def report_latents(
    report: Report, members: Sequence[MemberStability], alive: Sequence[ComparedLatents], comparison: GroupComparison
) -> None:
    """Keep arrays ``[d_sae]`` of each member under ``member<number>.``, with NaN for latents that are not compared.

    ``best.<other>`` and ``one_to_one.<other>`` are the cosines with the partner in another member, and
    ``best_partner.<other>`` and ``one_to_one_partner.<other>`` the number of that partner, or -1. Names that begin
    with ``encoder_`` are those of encoders.

    Args:
        report: Takes the arrays.
        members: The members.
        alive: Their latents that fire.
        comparison: The comparison of ``alive``.
    """
    for run, member in enumerate(members):
        low, high = wilson(member.probability, len(members) - 1)
        own = {
            "similarity": member.similarity,
            "probability": member.probability,
            "probability_low": low,
            "probability_high": high,
        }
        for name, values in own.items():
            report.array(f"member{run}.{name}", values.astype(np.float32))
        report.array(f"member{run}.counts", member.firing.counts)
        report.array(f"member{run}.mass", member.firing.mass)
        _report_partners(report, run, alive, comparison)


def report_counts(report: Report, members: Sequence[MemberStability], comparison: GroupComparison, tokens: int) -> None:
    """Count members, evaluated tokens and latents, and the matchings that are not exact or not complete."""
    matchings = comparison.decoder.matched.values()
    report.count("members", len(members))
    report.count("tokens", tokens)
    report.count("latents", sum(member.sae.d_sae for member in members))
    report.count("latents_alive", sum(int(member.firing.alive.sum()) for member in members))
    report.count("latents_scored", sum(int(member.scored.sum()) for member in members))
    report.count("latents_stable", sum(int(member.stable.sum()) for member in members))
    report.count("latents_unstable", sum(int(member.unstable.sum()) for member in members))
    report.count("pairs_matched_greedily", sum(not matching.exact for matching in matchings))
    report.count("latents_unmatched", sum(int((matching.index < 0).sum()) for matching in matchings))


def _report_partners(report: Report, run: int, alive: Sequence[ComparedLatents], comparison: GroupComparison) -> None:
    """Keep the partners of the latents of one member in all others."""
    for prefix, side in (("", comparison.decoder), ("encoder_", comparison.encoder)):
        if side is None:
            continue
        for (a, b), best in side.best.items():
            if a == run:
                _report_partner(report, f"{prefix}best", run, b, best, side.best_index[a, b], alive)
        for (a, b), matching in side.matched.items():
            if run in (a, b):
                other, own = (b, matching) if a == run else (a, matching.turned(len(alive[run].numbers)))
                _report_partner(report, f"{prefix}one_to_one", run, other, own.similarity, own.index, alive)


def _report_partner(
    report: Report,
    name: str,
    run: int,
    other: int,
    cosines: NDArray[np.float64],
    rows: NDArray[np.int64],
    alive: Sequence[ComparedLatents],
) -> None:
    """Keep cosines ``[n]`` with the ``rows`` of another member, and the latents that these rows belong to."""
    partners = np.full(alive[run].d_sae, -1, np.int32)
    matched = rows >= 0
    partners[alive[run].numbers[matched]] = alive[other].numbers[rows[matched]]
    report.array(f"member{run}.{name}.{other}", alive[run].spread(cosines).astype(np.float32))
    report.array(f"member{run}.{name}_partner.{other}", partners)
