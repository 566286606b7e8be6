"""Surface form: do unstable latents fire on few token identities? Compared at equal firing frequency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.stats.identity import Concentration
from saebench.stats.intervals import Estimate, mean_estimate
from saebench.stats.strata import stratified_difference
from saebench.tasks.seed_stability.stability import MemberStability

GROUPS = ("stable", "unstable")
_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
_METRICS = {"token_entropy": "entropy", "modal_token_share": "modal_share"}


def no_group(name: str) -> str:
    """Why nothing is measured of a group."""
    return f"no latent of any member is {name}"


def surface(
    output: TaskOutput,
    members: Sequence[MemberStability],
    strata: Sequence[NDArray[np.int64]],
    found: Sequence[Concentration],
    evaluated: int,
) -> None:
    """Add the concentration of firing tokens, and the firing density, of the stable and the unstable latents.

    The latents of all members are pooled. ``<metric>_gap`` is unstable less stable within a member's frequency
    ``strata``. ``evaluated`` is the number of evaluated tokens.
    """
    masks = {name: np.concatenate([getattr(member, name) for member in members]) for name in GROUPS}
    # Strata of different members are different strata.
    offset = max((int(each.max()) for each in strata), default=0) + 1
    stratum = np.concatenate([each + index * offset for index, each in enumerate(strata)])
    for metric, attribute in _METRICS.items():
        values = np.concatenate([getattr(each, attribute) for each in found])
        scored = {name: mask & np.isfinite(values) for name, mask in masks.items()}
        for name, chosen in scored.items():
            add(output, metric, mean_estimate(values[chosen]), "latent", f"no {name} latent fires often enough", name)
        a, b = scored["unstable"], scored["stable"]
        gap = stratified_difference(values[a], stratum[a], values[b], stratum[b])
        reason = "no frequency stratum holds two stable and two unstable latents that fire often enough"
        add(output, f"{metric}_gap", gap, "latent", reason)
    scored_latents = np.concatenate([np.isfinite(each.entropy) for each in found])
    density = np.concatenate([each.totals for each in found]) / max(evaluated, 1)
    for name, mask in masks.items():
        share = mean_estimate(scored_latents[mask].astype(np.float64))
        add(output, "token_entropy_coverage", share, "latent", no_group(name), name)
        for quantile, level in _QUANTILES.items():
            value = float(np.quantile(density[mask], level)) if mask.any() else float("nan")
            estimate = Estimate(value, np.nan, np.nan, np.nan, int(mask.sum()), "none")
            add(output, "firing_density", estimate, "latent", no_group(name), f"{name}/{quantile}")
