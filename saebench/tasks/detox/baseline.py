"""The baseline that needs no SAE: steering against the difference of the means of toxic and neutral texts."""

from __future__ import annotations

from dataclasses import dataclass

from saebench.interventions.vectors import AddVector
from saebench.passes.activity import mean_activations
from saebench.tasks.detox.choice import Tradeoff
from saebench.tasks.detox.inputs import Inputs
from saebench.tasks.detox.judged import Judged
from saebench.tasks.detox.steering import away


@dataclass(frozen=True, eq=False)
class DiffMean:
    """Chosen on the validation prompts as the settings of SAEs are, and tested; the same for all SAEs at a site."""

    strengths: list[float]  # times the difference, of every token
    validation: Tradeoff
    chosen: float | None  # None: no strength reduces toxicity within the limits
    intervention: AddVector | None
    test: Judged
    on_test: Tradeoff | None  # all strengths, where the whole sweep is tested


def diffmean(given: Inputs, site: str) -> DiffMean:
    """Made once for each site."""
    key = ("detox", "diffmean", site, repr(sorted(given.parameters.items())))
    return given.context.shared(key, lambda: _diffmean(given, site))


def _diffmean(given: Inputs, site: str) -> DiffMean:
    split = given.splits["fit"]
    means = mean_activations(given.context, split.texts, given.parameters["context_length"], site)
    difference = means[split.toxic].mean(0) - means[~split.toxic].mean(0)
    strengths = sorted(given.parameters["diffmean_strengths"])
    swept = [away(site, difference, strength) for strength in strengths]
    validation = Tradeoff(given.validation.clean, given.validation.under(swept))
    chosen, reduction = validation.best(given.limits, range(len(strengths)), strengths)
    intervention = away(site, difference, chosen) if reduction > 0 else None
    on_test = None
    if given.parameters["sweep_on_test"]:
        on_test = Tradeoff(given.test.clean, given.test.under(swept))
    return DiffMean(
        strengths=strengths,
        validation=validation,
        chosen=None if intervention is None else chosen,
        intervention=intervention,
        test=given.test.clean if intervention is None else given.test.under([intervention])[0],
        on_test=on_test,
    )
