"""The results of all methods: with the SAE's latents, without an SAE, and the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from saebench.evaluation.changes import NOISE, RANDOM_LATENTS
from saebench.sae.protocol import SAE
from saebench.tasks.unlearning.methods.clamps import clamp_sweeps, noise_sweep, random_latents_sweep
from saebench.tasks.unlearning.methods.directions import direction_sweeps
from saebench.tasks.unlearning.methods.guardrail import guardrail_sweeps
from saebench.tasks.unlearning.methods.trained import RMU, SSPU, can_guide, train_rmu, train_sspu
from saebench.tasks.unlearning.scoring.curves import Curve, CurvePoint, LossRises
from saebench.tasks.unlearning.scoring.scorer import MethodResult, MethodScorer, SettingResult
from saebench.tasks.unlearning.selection import LatentStatistics, choose
from saebench.tasks.unlearning.settings import LATENT_METHODS

CurvesByMethod = Mapping[str, Sequence[Curve]]


def latent_curves(scorer: MethodScorer, sae: SAE, statistics: LatentStatistics) -> dict[str, list[Curve]]:
    """Score the sweeps of ``clamp``, and of ``conditional`` and ``dsg`` where the settings ask for them.

    Those of ``clamp`` are always needed, by the controls and by SAEBench's score. All sweeps are scored together,
    because edits of the same latents then encode only once.
    """
    context, settings = scorer.context, scorer.settings
    sweeps = clamp_sweeps(sae, context, statistics, settings)
    if "conditional" not in settings.methods:
        del sweeps["conditional"]
    if "dsg" in settings.methods:
        sweeps["dsg"] = guardrail_sweeps(sae, context, statistics, settings)
    curves = iter(scorer.curves([sweep for of_method in sweeps.values() for sweep in of_method]))
    return {method: [next(curves) for _ in of_method] for method, of_method in sweeps.items()}


def latent_results(scorer: MethodScorer, curves: CurvesByMethod) -> dict[str, MethodResult]:
    """The results of the methods among which the headline is chosen."""
    asked = [method for method in LATENT_METHODS if method in scorer.settings.methods]
    return {method: scorer.result(curves[method]) for method in asked}


def control_results(
    scorer: MethodScorer, sae: SAE, statistics: LatentStatistics, clamps: Sequence[Curve]
) -> dict[str, SettingResult]:
    """Repeat the clamp's chosen setting with random latents and as noise, and its whole sweep with random latents.

    Raises DataError for an SAE that has too few latents to draw random ones.
    """
    context, settings = scorer.context, scorer.settings
    clamp = choose(clamps, settings.retain_budget)
    random_sweep = random_latents_sweep(sae, context, statistics, clamp.curve.sweep, settings)
    [random_test] = scorer.rises([random_sweep], "test")
    # A control chooses nothing, so its validation documents are not scored.
    validation = clamps[0].validation
    unscored = np.full((len(random_sweep.strengths), len(validation.predictions)), np.nan)
    random_curve = Curve(random_sweep, LossRises(unscored, validation.predictions, validation.is_forget), random_test)
    random = CurvePoint(random_curve, clamp.place)
    noise = noise_sweep(clamp.chosen, context.seed)
    [noise_test] = scorer.rises([noise], "test")
    changes = [random.chosen.change, next(iter(noise.changes), None)]
    answers, written = scorer.answers(changes), [scorer.continuations(change) for change in changes]
    return {
        RANDOM_LATENTS: MethodResult.at(random, [random_curve], answers[0], written[0]),
        NOISE: SettingResult(noise_test, answers[1], written[1], {"as": clamp.note()}),
    }


def results_without_sae(scorer: MethodScorer) -> dict[str, MethodResult]:
    """The results of the methods that need no SAE, computed once for all SAEs at the site."""
    context, settings, site = scorer.context, scorer.settings, scorer.site

    def compute() -> dict[str, MethodResult]:
        sweeps = direction_sweeps(context, settings, site)
        results = {method: scorer.result(scorer.curves([sweep])) for method, sweep in sweeps.items()}
        if RMU in settings.methods and settings.fine_tune_steps:
            results[RMU] = scorer.weight_result(RMU, train_rmu(context, settings, site))
        return results

    return context.shared(("unlearning", "results without an SAE", site, settings), compute)


def guided_results(scorer: MethodScorer, sae: SAE, statistics: LatentStatistics) -> dict[str, MethodResult]:
    """The result of SSPU; none where the settings leave it out, or the SAE's latents cannot guide it."""
    context, settings = scorer.context, scorer.settings
    if SSPU not in settings.methods or not settings.fine_tune_steps or not can_guide(sae, context):
        return {}
    return {SSPU: scorer.weight_result(SSPU, train_sspu(sae, context, statistics, settings))}
