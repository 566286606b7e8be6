"""Methods that need no SAE and no training: steering and ablation along a difference in means."""

from __future__ import annotations

from saebench.evaluation.changes import DIFFMEAN
from saebench.interventions.vectors import AddVector, DirectionalAblation
from saebench.passes.activity import mean_activations
from saebench.passes.context import TaskContext
from saebench.stats.means import DifferenceInMeans
from saebench.tasks.unlearning.data.documents import documents
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.settings import UnlearningSettings

ABLATION = "ablation"


def direction_sweeps(context: TaskContext, settings: UnlearningSettings, site: str) -> dict[str, UnlearningSweep]:
    """Subtract the difference in means of both sides, or ablate its direction about the retain side's mean.

    Returns:
        The sweep of each of these methods that the settings ask for, the same for all SAEs at the site.
    """
    means = side_means(context, settings, site)
    sweeps: dict[str, UnlearningSweep] = {}
    if DIFFMEAN in settings.methods:
        strengths = settings.direction_strengths
        changes = tuple(AddVector(site, means.direction, -strength) for strength in strengths)
        sweeps[DIFFMEAN] = UnlearningSweep(DIFFMEAN, strengths, changes, label="difference in means")
    if ABLATION in settings.methods:
        strengths, direction = settings.ablation_strengths, means.direction[None]
        ablations = tuple(
            DirectionalAblation(site, direction, strength=strength, centre=means.centre) for strength in strengths
        )
        sweeps[ABLATION] = UnlearningSweep(ABLATION, strengths, ablations, label="difference in means")
    return sweeps


def side_means(context: TaskContext, settings: UnlearningSettings, site: str) -> DifferenceInMeans:
    """The mean activation of the forget side minus that of the retain side, in float32.

    The means are over the documents to fit on; each document counts the same.
    """
    fit = documents(context, settings)["fit"]
    forget, retain = (
        mean_activations(context, texts, settings.context_length, site).double().mean(0).float()
        for texts in (fit.forget, fit.retain)
    )
    return DifferenceInMeans.between(forget[None], retain[None])
