"""The results of all methods and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saebench.evaluation.changes import RANDOM_LATENTS
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.stats.rng import NO_CONTENT
from saebench.tasks.unlearning.methods.clamps import clamp_sweeps, clamps_of, matched_latents
from saebench.tasks.unlearning.methods.directions import direction_sweeps
from saebench.tasks.unlearning.methods.guardrail import guardrail_of, guardrail_sweeps
from saebench.tasks.unlearning.methods.redirected import redirected
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.methods.trained import RMU, SSPU, can_guide, train_rmu, train_sspu
from saebench.tasks.unlearning.scoring.curves import Curve, CurvePoint, choose, headline_method
from saebench.tasks.unlearning.scoring.losses import Losses, stacked
from saebench.tasks.unlearning.scoring.scorer import MethodResult, MethodScorer
from saebench.tasks.unlearning.selection import LatentStatistics
from saebench.tasks.unlearning.settings import LATENT_METHODS, UnlearningSettings

RANDOM_DIRECTIONS = "random_directions"
CurvesByMethod = Mapping[str, Sequence[Curve]]


def latent_curves(scorer: MethodScorer, sae: SAE, statistics: LatentStatistics) -> dict[str, list[Curve]]:
    """Score the sweeps of ``clamp``, and of ``conditional`` and ``dsg`` where the settings ask for them.

    Those of ``clamp`` are needed by SAEBench's score, too. All sweeps are scored together, because edits of the same
    latents then encode only once.
    """
    context, settings = scorer.context, scorer.settings
    sweeps = clamp_sweeps(sae, context, statistics, settings)
    sweeps["dsg"] = guardrail_sweeps(sae, context, statistics, settings) if "dsg" in settings.methods else []
    needed = [
        method
        for method in LATENT_METHODS
        if method in settings.methods or (method == "clamp" and settings.saebench_score)
    ]
    curves = iter(scorer.curves([sweep for method in needed for sweep in sweeps[method]]))
    return {method: [next(curves) for _ in sweeps[method]] for method in needed}


def latent_results(scorer: MethodScorer, curves: CurvesByMethod) -> dict[str, MethodResult]:
    """The results of the methods among which the headline is chosen."""
    asked = [method for method in LATENT_METHODS if method in scorer.settings.methods]
    return dict(zip(asked, scorer.results([curves[method] for method in asked]), strict=True))


def control_losses(
    scorer: MethodScorer, sae: SAE, statistics: LatentStatistics, results: Mapping[str, MethodResult], headline: str
) -> dict[str, Losses]:
    """The losses of the test documents under the controls of the latent methods, one setting for each random draw.

    Each draw chooses its setting on validation by the rule of the methods themselves. ``random_directions`` has the
    headline method with other decoder rows; it is left out for an SAE without rows. ``random_latents`` has every method
    with random latents, as many as the method chose, and the best method of the draw.

    Raises DataError for an SAE that has too few latents.
    """
    context, settings = scorer.context, scorer.settings
    points: dict[str, list[CurvePoint]] = {RANDOM_LATENTS: []}
    if Capability.LINEAR_DECODER in sae.capabilities:
        points[RANDOM_DIRECTIONS] = []
    for draw in range(settings.control_draws):
        random = _random_latents(context, settings, sae, statistics, results, draw)
        tried = dict(zip(random, scorer.curves(list(random.values())), strict=True))
        chosen = {method: choose([curve]) for method, curve in tried.items()}
        points[RANDOM_LATENTS].append(chosen[headline_method(chosen)])
        if RANDOM_DIRECTIONS in points:
            rng = context.rng("unlearning:random_directions", NO_CONTENT, draw)
            sweeps = [redirected(curve.sweep, sae, context, statistics, rng) for curve in results[headline].tried]
            points[RANDOM_DIRECTIONS].append(choose(scorer.curves(sweeps)))
    return {control: stacked(scorer.test(of_control)) for control, of_control in points.items()}


def results_without_sae(scorer: MethodScorer) -> dict[str, MethodResult]:
    """The results of the methods that need no SAE, computed once for all SAEs at the site."""
    context, settings, site = scorer.context, scorer.settings, scorer.site

    def compute() -> dict[str, MethodResult]:
        sweeps = direction_sweeps(context, settings, site)
        results = dict(zip(sweeps, scorer.results([scorer.curves([each]) for each in sweeps.values()]), strict=True))
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


def _random_latents(
    context: TaskContext,
    settings: UnlearningSettings,
    sae: SAE,
    statistics: LatentStatistics,
    results: Mapping[str, MethodResult],
    draw: int,
) -> dict[str, UnlearningSweep]:
    """The sweep of each method with random latents instead of those of its chosen setting."""
    sweeps: dict[str, UnlearningSweep] = {}
    for method, result in results.items():
        own = result.point.curve.sweep
        label = f"random, as {own.label}"
        if not own.latents:
            sweeps[method] = UnlearningSweep(method, own.strengths, (), label=label)
            continue
        rng = context.rng("unlearning:random_latents", NO_CONTENT, len(own.latents), draw)
        latents, sized = matched_latents(sae, statistics, own.latents, rng)
        if method == "dsg":
            sweeps[method] = guardrail_of(sae, context, sized, latents, settings, label)
        else:
            sweeps[method] = clamps_of(sae, context, sized, latents, settings, label)[method]
    return sweeps
