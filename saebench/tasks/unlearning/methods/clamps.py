"""Clamps of latents to negative values, and latents drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from saebench.errors import DataError
from saebench.interventions.clamp import Clamp
from saebench.interventions.latents import Latents
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.selection import frequency_matched
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.selection import LatentIndices, LatentStatistics, selections
from saebench.tasks.unlearning.settings import UnlearningSettings


def clamp_sweeps(
    sae: SAE, context: TaskContext, statistics: LatentStatistics, settings: UnlearningSettings
) -> dict[str, list[UnlearningSweep]]:
    """Clamp the latents of each selection: wherever they fire, and only where they exceed a threshold.

    Returns:
        The sweeps of the methods ``clamp`` and ``conditional``. Both edit the same `Latents`, so that scoring them
        together encodes only once.
    """
    sweeps: dict[str, list[UnlearningSweep]] = {"clamp": [], "conditional": []}
    for label, indices in selections(statistics, settings.clamp_selections, settings):
        for method, sweep in clamps_of(sae, context, statistics, indices, settings, label).items():
            sweeps[method].append(sweep)
    return sweeps


def clamps_of(
    sae: SAE,
    context: TaskContext,
    statistics: LatentStatistics,
    indices: LatentIndices,
    settings: UnlearningSettings,
    label: str,
) -> dict[str, UnlearningSweep]:
    """The sweeps of ``clamp`` and of ``conditional`` for some latents."""
    latents, sizes = latents_of(sae, context, indices), statistics.size[indices]
    condition = settings.condition * float(sizes.mean()) if len(indices) else 0.0
    return {
        method: UnlearningSweep(
            method, settings.strengths, _clamps(latents, sizes, settings, threshold), tuple(latents.indices), label
        )
        for method, threshold in (("clamp", 0.0), ("conditional", condition))
    }


def matched_latents(
    sae: SAE, statistics: LatentStatistics, chosen: Sequence[int], rng: np.random.Generator
) -> tuple[LatentIndices, LatentStatistics]:
    """As many other latents, drawn at random, each of which fires about as often as one of those that were chosen.

    Returns:
        The latents; and statistics in which a latent that never fires on the forget side has the mean size of the
        chosen ones there instead of none.

    Raises:
        DataError: The SAE has too few other latents.
    """
    try:
        indices = frequency_matched(statistics.rate, np.array(chosen, np.int64), rng, ties=statistics.mean)
    except DataError:
        raise DataError(
            f"{sae.name} has {sae.d_sae} latents, too few to draw {len(chosen)} random ones beside those "
            "that were selected; use fewer latents."
        ) from None
    size = np.where(statistics.size > 0, statistics.size, statistics.size[list(chosen)].mean())
    return indices, replace(statistics, size=size)


def latents_of(sae: SAE, context: TaskContext, indices: LatentIndices) -> Latents:
    """The latents ``indices`` for edits that keep the SAE's error."""
    return Latents(sae, indices.tolist(), error="kept", budget=context.budget.encoder)


def units(sizes: Float[np.ndarray, " n"], settings: UnlearningSettings) -> Float[np.ndarray, " n"]:
    """The value that a strength of 1 stands for, for latents of these sizes."""
    return sizes if settings.strength_unit == "mean" else np.ones_like(sizes)


def _clamps(
    latents: Latents, sizes: Float[np.ndarray, " n"], settings: UnlearningSettings, threshold: float
) -> tuple[Clamp, ...]:
    """One clamp for each strength; none without latents."""
    if not len(latents):
        return ()
    unit = units(sizes, settings).tolist()
    return tuple(Clamp.multiple(latents, -strength, unit, threshold=threshold) for strength in settings.strengths)
