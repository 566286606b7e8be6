"""The figures of what stable and unstable latents do, averaged over the members of the group.

Every figure of a group of latents has a control (``_random``), which is the same of random groups, and the paired
difference from it (``_excess``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saebench.evaluation import Report, subset_name
from saebench.stats.intervals import Estimate, mean_estimate, ratio
from saebench.stats.proportions import weighted_proportion
from saebench.stats.strata import stratified_difference
from saebench.tasks.seed_stability.scoring.function import FunctionScores, GroupEffect, PerSequence
from saebench.tasks.seed_stability.scoring.surface import SurfaceForm
from saebench.tasks.seed_stability.selection import Kind

_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def report_function(report: Report, scores: FunctionScores) -> None:
    """Add explained variance, cross-entropy and KL with groups of latents left out or kept alone, and surface form.

    ``control_mass_ratio`` says how well the random groups match in activation mass.
    """
    spread = scores.errors[0].spread
    why = "the activations do not vary"
    _report_members(report, "ev_all", [spread - error.all for error in scores.errors], spread, why)
    _report_members(report, "ev_none", [spread - error.none for error in scores.errors], spread, why)
    for kind, effects in scores.variance.items():
        _report_effect(report, "ev_drop", kind, effects.drop)
        _report_effect(report, "ev_keep", kind, effects.keep)
        _report_effect(report, "ev_drop_per_mass", kind, effects.drop_per_mass)
        why = _no_latent(kind)
        _report_members(report, "ev_drop_per_latent", effects.drop_per_latent, spread, why, kind)
        mass_ratio = mean_estimate(np.array(effects.mass_ratios))
        report.estimate("control_mass_ratio", mass_ratio, unit="sae", why=why, subset=kind)
    _report_surface(report, scores.surface)
    for (metric, kind), effect in scores.losses.items():
        _report_effect(report, metric, kind, effect)


def _report_surface(report: Report, surface: SurfaceForm) -> None:
    """Add the concentration of the tokens that stable and unstable latents fire on, and how often they fire.

    ``<metric>_gap`` is the value of unstable latents less that of stable ones of the same member and frequency decile.
    """
    for metric, values in (("token_entropy", surface.entropy), ("modal_token_share", surface.modal_share)):
        scored = {kind: mask & np.isfinite(values) for kind, mask in surface.groups.items()}
        for kind, mask in scored.items():
            why = f"no {kind} latent fires often enough"
            report.estimate(metric, mean_estimate(values[mask]), unit="latent", why=why, subset=kind)
        a, b = scored["unstable"], scored["stable"]
        gap = stratified_difference(values[a], surface.stratum[a], values[b], surface.stratum[b])
        why = "no frequency stratum holds two stable and two unstable latents that fire often enough"
        report.estimate(f"{metric}_gap", gap, unit="latent", why=why)
    has_entropy = np.isfinite(surface.entropy).astype(np.float64)
    for kind, mask in surface.groups.items():
        why = _no_latent(kind)
        coverage = weighted_proportion(has_entropy[mask])
        report.estimate("token_entropy_coverage", coverage, unit="latent", why=why, subset=kind)
        for name, level in _QUANTILES.items():
            value = float(np.quantile(surface.density[mask], level)) if mask.any() else float("nan")
            report.point("firing_density", value, int(mask.sum()), unit="latent", why=why, subset=f"{kind}/{name}")


def _no_latent(kind: Kind) -> str:
    return f"no latent of any member is {kind}"


def _report_effect(report: Report, metric: str, kind: Kind, effect: GroupEffect) -> None:
    """Add the figure of the latents of a kind, that of their controls, and the difference."""
    why, den = _no_latent(kind), effect.denominator
    excess = [own - control for own, control in zip(effect.own, effect.controls, strict=True)]
    _report_members(report, metric, effect.own, den, why, kind)
    _report_members(report, f"{metric}_random", effect.controls, den, why, kind)
    _report_members(report, f"{metric}_excess", excess, den, why, kind)


def _report_members(
    report: Report, metric: str, nums: Sequence[PerSequence], den: PerSequence, why: str, subset: str = ""
) -> None:
    """Add a mean over members, and keep their single values in the array ``<metric>/<subset>.members``.

    ``nums`` are the numerators ``[sequences]`` of each member. Without any, the metric is not scored.
    """
    if not nums:
        nothing = Estimate(np.nan, np.nan, np.nan, np.nan, len(den), "bootstrap-t")
        report.estimate(metric, nothing, unit="sequence", why=why, subset=subset)
        return
    report.ratio(metric, (np.mean(nums, axis=0), den), unit="sequence", why=why, subset=subset)
    report.array(f"{subset_name(metric, subset)}.members", np.array([ratio(num, den) for num in nums]))
