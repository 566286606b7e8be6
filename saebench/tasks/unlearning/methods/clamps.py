"""Clamps of latents to negative values, and the controls of a clamp."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from saebench.errors import DataError
from saebench.evaluation.changes import NOISE, RANDOM_LATENTS, Chosen
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import Clamp
from saebench.interventions.latents import Latents
from saebench.interventions.noise import EqualNormNoise
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.rng import NO_CONTENT
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
        latents, sizes = latents_of(sae, context, indices), statistics.size[indices]
        condition = settings.condition * float(sizes.mean()) if len(indices) else 0.0
        for method, threshold in (("clamp", 0.0), ("conditional", condition)):
            clamps = _clamps(latents, sizes, settings, threshold)
            sweeps[method].append(UnlearningSweep(method, settings.strengths, clamps, tuple(latents.indices), label))
    return sweeps


def random_latents_sweep(
    sae: SAE,
    context: TaskContext,
    statistics: LatentStatistics,
    clamp: UnlearningSweep,
    settings: UnlearningSettings,
) -> UnlearningSweep:
    """Clamp as many latents as ``clamp`` does, drawn at random, each of which fires about as often as one of those.

    Raises DataError for an SAE that has too few other latents.
    """
    label = f"random, as {clamp.label}"
    if not clamp.latents:
        return UnlearningSweep(RANDOM_LATENTS, clamp.strengths, (), label=label)
    rng = context.rng("unlearning:random_latents", NO_CONTENT, len(clamp.latents))
    try:
        indices = frequency_matched(statistics.rate, np.array(clamp.latents, np.int64), rng)
    except DataError:
        raise DataError(
            f"{sae.name} has {sae.d_sae} latents, too few to draw {len(clamp.latents)} random ones beside those "
            "that were selected; use fewer latents."
        ) from None
    # A latent that never fires on the forget side has no size there, and is given that of the selected ones.
    sizes = statistics.size[indices]
    sizes = np.where(sizes > 0, sizes, statistics.size[list(clamp.latents)].mean())
    latents = latents_of(sae, context, indices)
    clamps = _clamps(latents, sizes, settings, threshold=0.0)
    return UnlearningSweep(RANDOM_LATENTS, settings.strengths, clamps, tuple(latents.indices), label)


def noise_sweep(clamp: Chosen[Intervention], seed: int) -> UnlearningSweep:
    """Add noise that is as large at each token as what the chosen clamp does there; its only strength is 1."""
    noise = () if clamp.change is None else (EqualNormNoise(clamp.change, seed),)
    return UnlearningSweep(NOISE, (1.0,), noise)


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
