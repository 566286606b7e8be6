"""How the judgements become measurements, arrays, counts and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saebench.data.tokens import TokenBatch
from saebench.evaluation import Report, subset_name
from saebench.evaluation.changes import CLEAN, DIFFMEAN, NOISE, RANDOM_LATENTS, Setting
from saebench.evaluation.report import Ratio
from saebench.harness.utility import Utility
from saebench.tasks.detox.baseline import MeanSteering
from saebench.tasks.detox.data import ToxicitySplit
from saebench.tasks.detox.scoring.continuations import PromptSet
from saebench.tasks.detox.scoring.judgement import (
    Judgement,
    absolute_scores,
    advantage,
    log_perplexity_ratio,
    reduction,
)
from saebench.tasks.detox.scoring.side_effects import UtilityScores
from saebench.tasks.detox.scoring.tradeoff import Tradeoff, frontier_area, reduction_at_limit
from saebench.tasks.detox.selection import LatentSet, ToxicLatents
from saebench.tasks.detox.settings import DetoxSettings
from saebench.tasks.detox.steering import CHOSEN

_NOT_TOXIC = "the clean continuations are empty or not toxic at all, so there is nothing to reduce"
_SILENT = "there is no continuation to score"
_NO_EXAMPLE = "the task has no such score for single examples"
# The controls that the chosen setting is compared with, and what the metrics call them.
_CONTROLS = {RANDOM_LATENTS: "random", DIFFMEAN: "diffmean", NOISE: "noise"}


def report_auroc(report: Report, contributions: NDArray[np.float64]) -> None:
    """Add how well the toxic latents tell toxic from neutral test texts, from ``contributions[pairs]`` to the AUROC."""
    parts = (contributions, np.ones_like(contributions))
    report.ratio("latent_auroc", parts, unit="pair", why="there are no texts to rank")


def report_continuations(report: Report, judgements: Mapping[str, Judgement], clean: Judgement) -> None:
    """Add the scores of every subset and of the clean model, and how far the chosen setting beats its controls."""
    for subset, judgement in {**judgements, CLEAN: clean}.items():
        for metric, parts in absolute_scores(judgement).items():
            report.ratio(metric, parts, unit="prompt", why=_SILENT, subset=subset)
        for n, share in judgement.distinct.items():
            report.point(f"distinct_{n}", share, len(judgement.toxicity), unit="prompt", why=_SILENT, subset=subset)
        if subset != CLEAN:
            _comparison_with_clean(report, subset, judgement, clean)
    for control, name in _CONTROLS.items():
        if control in judgements:
            parts = advantage(clean, judgements[control], judgements[CHOSEN])
            report.ratio(f"toxicity_reduction_over_{name}", parts, unit="prompt", why=_NOT_TOXIC)


def report_ce_changes(report: Report, rises: Mapping[str, Ratio]) -> None:
    """Add the rise of the cross-entropy of neutral text in every subset."""
    for subset, parts in rises.items():
        why = "the neutral text has no prediction"
        report.ratio("ce_change", parts, unit="sequence", why=why, subset=subset)


def report_utility(report: Report, settings: DetoxSettings, scores: UtilityScores) -> None:
    """Add the accuracy on each lm-eval task, and its change; where lm-eval is missing they are not scored."""
    if scores.why_missing:
        for task in settings.utility_tasks:
            for metric in ("utility_accuracy", "utility_change", "utility_margin_change"):
                report.point(metric, np.nan, 0, unit="question", why=scores.why_missing, subset=task)
    for task, clean in scores.clean.items():
        changed = scores.changed[task]
        _utility(report, "utility_accuracy", subset_name(task, CLEAN), clean, None, "acc")
        _utility(report, "utility_accuracy", task, changed, None, "acc")
        _utility(report, "utility_change", task, changed, clean, "acc")
        _utility(report, "utility_margin_change", task, changed, clean, "margin")


def report_tradeoffs(report: Report, prefix: str, tried: Sequence[Tradeoff], settings: DetoxSettings) -> None:
    """Add the trade-off of all tiers together and of each, and the arrays of all settings.

    Args:
        report: The report to add to.
        prefix: The beginning of the subsets: "validation", or "" for the test prompts.
        tried: The trade-off of each tier, in the order of the settings; the array of tiers holds their places.
        settings: The limits of perplexity and of broken continuations.
    """
    _tradeoff(report, prefix, tried, settings)
    for tradeoff in tried:
        _tradeoff(report, subset_name(prefix, tradeoff.sweep.method), [tradeoff], settings)
    name = prefix or "test"
    places = [place for place, tradeoff in enumerate(tried) for _ in tradeoff.sweep.changes]
    report.array(f"{name}.tier", np.array(places, dtype=np.int64))
    _arrays(report, name, tried)


def report_mean_steering(report: Report, baseline: MeanSteering, settings: DetoxSettings) -> None:
    """Add the trade-off of steering against the difference in means, on validation and, where tried, on the test."""
    for prefix, tradeoff in (("validation", baseline.validation), ("", baseline.on_test)):
        if tradeoff is not None:
            _tradeoff(report, subset_name(prefix, DIFFMEAN), [tradeoff], settings)
            _arrays(report, f"{prefix or 'test'}.{DIFFMEAN}", [tradeoff])


def report_counts(report: Report, toxic: ToxicLatents, texts: Mapping[str, ToxicitySplit]) -> None:
    """Add the numbers of latents, texts and prompts."""
    report.count("selected_latents", len(toxic.latents))
    report.count("toxic_latents", toxic.passed)
    for name, split in texts.items():
        report.count(f"{name}_texts", len(split.texts))
    report.count("validation_prompts", len(texts["validation"].prompts))
    report.count("test_prompts", len(texts["test"].prompts))


def report_units(
    report: Report, texts: Mapping[str, ToxicitySplit], neutral: TokenBatch, utility: UtilityScores
) -> None:
    """Say on which prompts, sequences of neutral text and questions everything was measured."""
    report.units("prompt", [texts[split].prompts for split in ("validation", "test")])
    report.units("sequence", neutral.content_hash)
    if utility.clean:
        report.units("question", {task: scores.examples for task, scores in utility.clean.items()})


def note_choices(
    report: Report,
    toxic: ToxicLatents,
    random_latents: LatentSet,
    chosen: Sequence[Setting],
    baseline: MeanSteering | None,
) -> None:
    """Note which latents, tier and strengths were chosen.

    Args:
        report: The report to add to.
        toxic: The toxic latents and their AUROCs.
        random_latents: The latents that fire as often.
        chosen: The chosen setting of each tier, the best one first.
        baseline: Steering against the difference in means, if it was tested.
    """
    best = chosen[0]
    nothing = best.strength is None
    report.note("latents", toxic.latents.indices)
    report.note("fit_auroc", toxic.fit_auroc)
    report.note("validation_auroc", {str(n): value for n, value in toxic.validation_auroc.items()})
    report.note("chosen", None if nothing else {"tier": best.method, "strength": best.strength})
    report.note("by_tier", {setting.method: setting.strength for setting in chosen})
    report.note("diffmean_strength", None if baseline is None else baseline.chosen.strength)
    report.note("random_latents", random_latents.indices)


def note_scorers(report: Report, prompts: PromptSet) -> None:
    """Note what toxicity and fluency were scored with."""
    report.note("scorer", f"{prompts.scorer.name} ({prompts.scorer.version})")
    report.note("fluency_lm", prompts.fluency.lm_ref)


def note_nothing_changed(report: Report, settings: DetoxSettings, toxic: ToxicLatents, best: Setting) -> None:
    """Note why the model was not changed, if it was not."""
    if not len(toxic.latents):
        why = f"no latent reaches an AUROC of {settings.min_auroc} on the texts to fit on"
        report.note("nothing_changed", why)
    elif best.strength is None:
        report.note("nothing_changed", "no setting reduces toxicity on the validation prompts within the limits")


def _comparison_with_clean(report: Report, subset: str, judgement: Judgement, clean: Judgement) -> None:
    parts = reduction(clean, judgement)
    report.ratio("toxicity_reduction", parts, unit="prompt", why=_NOT_TOXIC, subset=subset)
    parts = log_perplexity_ratio(clean, judgement)
    log = report.ratio("log_perplexity_ratio", parts, unit="prompt", why=_SILENT, subset=subset)
    value = float(np.exp(log.value))
    low, high = float(np.exp(log.ci_low)), float(np.exp(log.ci_high))
    estimate = replace(log, value=value, stderr=value * log.stderr, ci_low=low, ci_high=high)
    report.estimate("perplexity_ratio", estimate, unit="prompt", why=_SILENT, subset=subset)


def _utility(report: Report, metric: str, subset: str, scores: Utility, minus: Utility | None, score: str) -> None:
    """Add the mean of ``score`` over questions, or its mean difference from ``minus``."""
    if score not in scores.per_example:
        n = len(scores.examples)
        report.point(metric, np.nan, n, unit="question", why=_NO_EXAMPLE, subset=subset)
        return
    values = scores.per_example[score]
    values = values if minus is None else values - minus.per_example[score]
    report.ratio(metric, (values, np.ones(len(values))), unit="question", why=_NO_EXAMPLE, subset=subset)


def _tradeoff(report: Report, subset: str, tried: Sequence[Tradeoff], settings: DetoxSettings) -> None:
    n = len(tried[0].clean.toxicity)
    at_limit, area = reduction_at_limit(tried, settings), frontier_area(tried, settings)
    report.point("reduction_at_perplexity", at_limit, n, unit="prompt", why=_NOT_TOXIC, subset=subset)
    report.point("frontier_area", area, n, unit="prompt", why=_NOT_TOXIC, subset=subset)


def _arrays(report: Report, name: str, tried: Sequence[Tradeoff]) -> None:
    """Add what each setting is worth, sweep by sweep, by rising strength."""
    columns = {
        "strength": [np.array(tradeoff.sweep.strengths) for tradeoff in tried],
        "toxicity_reduction": [tradeoff.reductions for tradeoff in tried],
        "log_perplexity_ratio": [tradeoff.costs for tradeoff in tried],
        "broken_increase": [tradeoff.broken_increases for tradeoff in tried],
    }
    for column, values in columns.items():
        report.array(f"{name}.{column}", np.concatenate(values).astype(np.float32))
