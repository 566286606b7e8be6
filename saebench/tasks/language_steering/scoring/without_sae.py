"""The methods that need no SAE, measured once for each site: the clean model, the difference in means, and ReCoVeR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from saebench.evaluation.changes import CLEAN, DIFFMEAN
from saebench.interventions.vectors import DirectionalAblation
from saebench.passes.context import TaskContext
from saebench.tasks.language_steering.methods import (
    RECOVER,
    ablation_centre,
    difference_in_means,
    recover_sweep,
    steering_sweep,
)
from saebench.tasks.language_steering.scoring.ablation import ablation_costs
from saebench.tasks.language_steering.scoring.continuations import ScoresByLanguage, continuations
from saebench.tasks.language_steering.selection import Validated, validate
from saebench.tasks.language_steering.settings import LanguageSteeringSettings


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class WithoutSAE:
    """What the methods without an SAE do, by method."""

    scores: Mapping[str, ScoresByLanguage]  # on the test split
    validated: Mapping[str, Validated[Any]]  # of the methods with strengths to choose from
    costs: Float[np.ndarray, "targets languages sentences"]  # of ablating the difference in means


def without_sae(context: TaskContext, settings: LanguageSteeringSettings, site: str) -> WithoutSAE:
    """Measure the methods that need no SAE, once per context and site."""
    return context.shared(
        ("language_steering", "without SAE", site, settings), lambda: _without_sae(context, settings, site)
    )


def _without_sae(context: TaskContext, settings: LanguageSteeringSettings, site: str) -> WithoutSAE:
    validation, test = (continuations(context, settings, split) for split in ("validation", "test"))
    differences = difference_in_means(context, settings, site)
    sweep = steering_sweep(DIFFMEAN, site, differences, settings.diffmean_strengths)
    validated: dict[str, Validated[Any]] = {**validate(validation, [sweep])}
    (steered,) = test.under([validated[DIFFMEAN].change])
    scores = {CLEAN: test.clean, DIFFMEAN: steered}
    if settings.recover_strengths:
        everywhere = recover_sweep(context, settings)
        change = everywhere.changes[0]
        if len(everywhere.changes) > 1:
            tried = [validation.under_at_many_sites(one) for one in everywhere.changes]
            validated[RECOVER] = Validated.of(everywhere, tried)
            change = validated[RECOVER].change
        scores[RECOVER] = test.under_at_many_sites(change)
    centre = ablation_centre(context, settings, site)
    costs = ablation_costs(
        context,
        settings,
        site,
        [DirectionalAblation(site, direction[None], centre=centre) for direction in differences.values()],
        "ablation of differences in means",
    )
    return WithoutSAE(scores, validated, costs)
