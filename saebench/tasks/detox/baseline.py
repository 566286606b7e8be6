"""The baseline that needs no SAE: steering against the difference in means of toxic and neutral texts."""

from __future__ import annotations

from dataclasses import dataclass

from saebench.evaluation.changes import DIFFMEAN, Setting, Sweep
from saebench.interventions.base import Intervention
from saebench.interventions.vectors import AddVector
from saebench.passes.activity import mean_activations
from saebench.passes.context import TaskContext
from saebench.stats.means import DifferenceInMeans
from saebench.tasks.detox.data import splits
from saebench.tasks.detox.scoring.continuations import prompt_set
from saebench.tasks.detox.scoring.judgement import Judgement
from saebench.tasks.detox.scoring.likelihood import text_pairs
from saebench.tasks.detox.scoring.tradeoff import Tradeoff, tradeoffs
from saebench.tasks.detox.selection import choose
from saebench.tasks.detox.settings import DetoxSettings


@dataclass(frozen=True, eq=False)
class MeanSteering:
    """Steering against the difference in means at one site: how it was tried, chosen and tested.

    A strength says how many times the difference, toxic minus neutral, is subtracted at every token. It is chosen by
    the same rule as those of an SAE.
    """

    chosen: Setting
    change: Intervention | None  # None where no strength has an effect within the limit
    test: Judgement
    on_test: Tradeoff | None  # all strengths on the test prompts, where the settings ask for them


def mean_steering(context: TaskContext, settings: DetoxSettings, site: str) -> MeanSteering:
    """Return the baseline at ``site``, which is the same for all SAEs there."""
    return context.shared(("detox", DIFFMEAN, site, settings), lambda: _mean_steering(context, settings, site))


def _mean_steering(context: TaskContext, settings: DetoxSettings, site: str) -> MeanSteering:
    fit = splits(context, settings)["fit"]
    means = mean_activations(context, fit.texts, settings.context_length, site)
    difference = DifferenceInMeans.between(means[fit.toxic], means[~fit.toxic]).direction
    strengths = tuple(sorted(settings.diffmean_strengths))
    changes = tuple(AddVector(site, difference, -strength) for strength in strengths)
    sweep = Sweep[Intervention](DIFFMEAN, strengths, changes)
    test = prompt_set(context, settings)
    [chosen] = choose(text_pairs(context, settings, "validation", site).tried([sweep], "difference in means"), settings)
    change = None if chosen.strength is None else AddVector(site, difference, -chosen.strength)
    return MeanSteering(
        chosen=chosen,
        change=change,
        on_test=tradeoffs([sweep], test)[0] if settings.sweep_on_test else None,
        test=test.clean if change is None else test.under([change])[0],
    )
