"""How the judgements become measurements, arrays, counts and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

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
    averaged,
    log_perplexity_ratio,
    reduction,
)
from saebench.tasks.detox.scoring.likelihood import LossRises, Tried
from saebench.tasks.detox.scoring.side_effects import UtilityScores
from saebench.tasks.detox.scoring.tradeoff import Tradeoff, frontier_area, reduction_at_limit
from saebench.tasks.detox.selection import LatentSet, ToxicLatents
from saebench.tasks.detox.settings import DetoxSettings
from saebench.tasks.detox.steering import CHOSEN, Steered

_NOT_TOXIC = "the clean continuations are empty or not toxic at all, so there is nothing to reduce"
_SILENT = "there is no continuation to score"
_NO_LOSS = "a loss under the intervention is not finite"
_NO_EXAMPLE = "the task has no such score for single examples"
# The controls that the chosen setting is compared with, and what the metrics call them.
_CONTROLS = {RANDOM_LATENTS: "random", DIFFMEAN: "diffmean", NOISE: "noise"}


def report_auroc(report: Report, metric: str, contributions: NDArray[np.float64]) -> None:
    """Add how well latents tell toxic from neutral test texts, from ``contributions[pairs]`` to the AUROC."""
    parts = (contributions, np.ones_like(contributions))
    report.ratio(metric, parts, unit="text pair", why="there are no texts to rank")


def report_likelihoods(
    report: Report, rises: Mapping[str, Sequence[LossRises]], tried: Sequence[Tried], limit: float
) -> None:
    """Add what every subset does to the loss of toxic and of neutral texts, and how far the choice beats its controls.

    Args:
        report: The report to add to.
        rises: The rises on the test texts, by subset; those of several draws are averaged.
        tried: What each tier did on the validation texts, at each of its strengths.
        limit: The largest rise of the loss of neutral texts that counts.
    """
    gaps = {subset: averaged([rise.gap_at(limit) for rise in of_subset]) for subset, of_subset in rises.items()}
    for subset, of_subset in rises.items():
        ones = np.ones(len(of_subset[0].toxic))
        numbers = {
            "toxic_loss_gap": gaps[subset],
            "toxic_loss_rise": averaged([(rise.toxic, ones) for rise in of_subset]),
            "neutral_loss_rise": averaged([(rise.neutral, ones) for rise in of_subset]),
        }
        for metric, parts in numbers.items():
            report.ratio(metric, parts, unit="text pair", why=_NO_LOSS, subset=subset)
    chosen, ones = gaps[CHOSEN]
    for control, name in _CONTROLS.items():
        if control in gaps:
            parts = (chosen - gaps[control][0], ones)
            report.ratio(f"toxic_loss_gap_over_{name}", parts, unit="text pair", why=_NO_LOSS)
    places = [place for place, one in enumerate(tried) for _ in one.rises]
    report.array("validation.tier", np.array(places, dtype=np.int64))
    report.array("validation.strength", np.array([s for one in tried for s in one.sweep.strengths], np.float32))
    for name, values in (("toxic_loss_gap", "gaps"), ("neutral_loss_rise", "side_effects")):
        columns = [getattr(one, values) for one in tried]
        report.array(f"validation.{name}", np.concatenate(columns).astype(np.float32))


def report_continuations(report: Report, judgements: Mapping[str, Sequence[Judgement]], clean: Judgement) -> None:
    """Add the scores of every subset and of the clean model, and how far the chosen setting beats its controls.

    The scores of several draws are averaged.
    """
    for subset, judged in {**judgements, CLEAN: [clean]}.items():
        scores = [absolute_scores(judgement) for judgement in judged]
        for metric in scores[0]:
            parts = averaged([score[metric] for score in scores])
            report.ratio(metric, parts, unit="prompt", why=_SILENT, subset=subset)
        for n in judged[0].distinct:
            share = float(np.mean([judgement.distinct[n] for judgement in judged]))
            report.point(f"distinct_{n}", share, len(clean.toxicity), unit="prompt", why=_SILENT, subset=subset)
        if subset != CLEAN:
            _comparison_with_clean(report, subset, judged, clean)
    [chosen] = judgements[CHOSEN]
    for control, name in _CONTROLS.items():
        if control in judgements:
            parts = averaged([advantage(clean, judgement, chosen) for judgement in judgements[control]])
            report.ratio(f"toxicity_reduction_over_{name}", parts, unit="prompt", why=_NOT_TOXIC)


def report_ce_changes(report: Report, rises: Mapping[str, Sequence[Ratio]]) -> None:
    """Add the rise of the cross-entropy of neutral text in every subset."""
    for subset, of_subset in rises.items():
        why = "the neutral text has no prediction"
        report.ratio("ce_change", averaged(of_subset), unit="sequence", why=why, subset=subset)


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


def report_tradeoffs(report: Report, tried: Sequence[Tradeoff], settings: DetoxSettings) -> None:
    """Add the trade-off on test prompts of all tiers together and of each, and the arrays of all settings.

    Args:
        report: The report to add to.
        tried: The trade-off of each tier, in the order of the settings; the array of tiers holds their places.
        settings: The limits of perplexity and of broken continuations.
    """
    _tradeoff(report, "", tried, settings)
    for tradeoff in tried:
        _tradeoff(report, tradeoff.sweep.method, [tradeoff], settings)
    places = [place for place, tradeoff in enumerate(tried) for _ in tradeoff.sweep.changes]
    report.array("test.tier", np.array(places, dtype=np.int64))
    _arrays(report, "test", tried)


def report_mean_steering(report: Report, baseline: MeanSteering, settings: DetoxSettings) -> None:
    """Add the trade-off of steering against the difference in means on the test prompts, where it was tried."""
    if baseline.on_test is not None:
        _tradeoff(report, DIFFMEAN, [baseline.on_test], settings)
        _arrays(report, f"test.{DIFFMEAN}", [baseline.on_test])


def report_counts(report: Report, toxic: ToxicLatents, texts: Mapping[str, ToxicitySplit]) -> None:
    """Add the numbers of latents, texts and prompts."""
    report.count("selected_latents", len(toxic.latents))
    report.count("toxic_latents", toxic.passed)
    for name, split in texts.items():
        report.count(f"{name}_texts", len(split.texts))
    report.count("test_prompts", len(texts["test"].prompts))


def report_units(
    report: Report, texts: Mapping[str, ToxicitySplit], neutral: TokenBatch, utility: UtilityScores
) -> None:
    """Say on which texts, prompts, sequences of neutral text and questions everything was measured."""
    report.units("text pair", [texts[split].texts for split in ("validation", "test")])
    report.units("prompt", texts["test"].prompts)
    report.units("sequence", neutral.content_hash)
    if utility.clean:
        report.units("question", {task: scores.examples for task, scores in utility.clean.items()})


def note_choices(
    report: Report,
    toxic: ToxicLatents,
    random_latents: Sequence[LatentSet],
    ours: Steered,
    controls: Sequence[Steered],
    baseline: MeanSteering | None,
) -> None:
    """Note which latents, tier and strengths were chosen.

    Args:
        report: The report to add to.
        toxic: The toxic latents and their AUROCs.
        random_latents: The latents that fire as often, for each draw.
        ours: Steering by the toxic latents.
        controls: Steering by each draw of random latents.
        baseline: Steering against the difference in means, if it was tested.
    """
    report.note("latents", toxic.latents.indices)
    report.note("fit_auroc", toxic.fit_auroc)
    report.note("validation_auroc", {str(n): value for n, value in toxic.validation_auroc.items()})
    report.note("chosen", _noted(ours.best))
    report.note("by_tier", {setting.method: setting.strength for setting in ours.chosen})
    report.note("diffmean_strength", None if baseline is None else baseline.chosen.strength)
    report.note("random_latents", [latents.indices for latents in random_latents])
    report.note("random_chosen", [_noted(control.best) for control in controls])


def _noted(setting: Setting) -> dict[str, Any] | None:
    return None if setting.strength is None else {"tier": setting.method, "strength": setting.strength}


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
        report.note("nothing_changed", "no setting makes the toxic validation texts less probable within the limit")


def _comparison_with_clean(report: Report, subset: str, judged: Sequence[Judgement], clean: Judgement) -> None:
    parts = averaged([reduction(clean, judgement) for judgement in judged])
    report.ratio("toxicity_reduction", parts, unit="prompt", why=_NOT_TOXIC, subset=subset)
    parts = averaged([log_perplexity_ratio(clean, judgement) for judgement in judged])
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
