"""Measurements over rows of the parallel set: one sentence in all languages is one unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from saebench.evaluation import Report, subset_name
from saebench.evaluation.changes import DIFFMEAN
from saebench.evaluation.report import Ratio
from saebench.scorers import bleu_from
from saebench.stats.intervals import Estimate, jackknife
from saebench.tasks.language_steering.data import Sentences
from saebench.tasks.language_steering.methods import RANDOM, RECOVER
from saebench.tasks.language_steering.scoring.continuations import ContinuationScores, ScoresByLanguage
from saebench.tasks.language_steering.selection import LatentRates, LatentsByLanguage, Validated, langfir
from saebench.tasks.language_steering.settings import LATENT_METHODS, LanguageSteeringSettings

SAME_SCRIPT = "same_script"

# Thresholds of LangFIR for which the number of latents is kept in the array `langfir_counts`.
CONSISTENCIES = (0.5, 0.8, 0.9, 0.95, 1.0)
RANDOM_RATES = (0.0, 0.01, 0.05, 0.1, 0.2)

_NOTHING = "nothing was scored"
# The metrics that are means over continuations, and the value of each continuation.
_MEANS: dict[str, Callable[[ContinuationScores], NDArray[np.float64]]] = {
    "accuracy": lambda scores: scores.hit,
    "acc_chrf": lambda scores: scores.hit_chrf,
    "chrf": lambda scores: scores.chrf,
    "degenerate_share": lambda scores: scores.degenerate.astype(np.float64),
}
# The metrics that are also reported for every target by itself.
_BY_LANGUAGE = ("accuracy", "acc_chrf", "acc_bleu", "ablation_selectivity")

Costs = Float[np.ndarray, "targets languages sentences"]


def report_steering(
    report: Report, sentences: Sentences, scores: Mapping[str, ScoresByLanguage], methods: Sequence[str]
) -> None:
    """Add the scores of the continuations, and by how much the latents' methods exceed the other methods.

    Args:
        report: The report.
        sentences: The languages.
        scores: The scores of everything on the test split; "" is the headline.
        methods: The methods that steer with latents.
    """
    for method, by_language in scores.items():
        _report_scores(report, sentences, method, by_language)
    for method in ("", *methods):
        _report_difference(report, sentences, "accuracy_over_diffmean", method, scores[method], scores[DIFFMEAN])
    for other in (RANDOM, RECOVER):
        if other in scores:
            _report_difference(report, sentences, f"accuracy_over_{other}", "", scores[""], scores[other])


def report_ablation(report: Report, sentences: Sentences, costs: Mapping[str, Costs]) -> None:
    """Add what ablation costs each target's own language and the other languages, by method."""
    for method, by_target in costs.items():
        ones = np.ones(by_target.shape[-1])
        for name, targets in _subsets(sentences, "ablation_selectivity").items():
            subset = subset_name(method, name)
            compared = sentences.same_script if name == SAME_SCRIPT else sentences.languages
            own, others = _own_and_others(by_target, sentences, targets, compared)
            _report_ratio(report, "ablation_selectivity", subset, ((own - others.mean(1)).mean(0), ones))
            if name not in _groups(sentences):
                continue
            own_mean, others_mean = own.mean(0), others.mean(1).mean(0)
            _report_ratio(report, "ablation_own", subset, (own_mean, ones))
            _report_ratio(report, "ablation_others", subset, (others_mean, ones))
            denominators = others_mean if others_mean.sum() > 0 else np.zeros_like(ones)
            why = "ablation costs the other languages nothing"
            _report_ratio(report, "ablation_ratio", subset, (own_mean, denominators), why)
            report.estimate("ablation_margin", _margin(own, others), unit="sentence", why=_NOTHING, subset=subset)


def report_latents(report: Report, latents: Mapping[str, LatentsByLanguage]) -> None:
    """Add how many latents belong to a language, on average and one by one.

    Add also the share of LangFIR's latents that it finds for one language only.
    """
    for method in ("", *LATENT_METHODS):
        sizes = {language: len(indices) for language, indices in latents[method or "langfir"].items()}
        mean = float(np.mean(list(sizes.values())))
        report.point("latents_per_language", mean, len(sizes), unit="language", why=None, subset=method)
        for language, n in sizes.items():
            subset = subset_name(method, language)
            report.point("latents_per_language", n, 1, unit="language", why=None, subset=subset)
    every = np.concatenate(list(latents["langfir"].values()))
    _, languages = np.unique(every, return_counts=True)
    share = int((languages == 1).sum()) / len(every) if len(every) else np.nan
    why = "LangFIR finds no latent for any language"
    report.point("langfir_specific_share", share, len(every), unit="latent", why=why)


def report_tried(
    report: Report, rates: LatentRates, validated: Mapping[str, Validated[Any]], costs: Mapping[str, Costs]
) -> None:
    """Keep the arrays of everything that was tried: thresholds, strengths, and ablations."""
    counts = [
        [[len(langfir(rates, language, consistency, rate)) for language in rates.languages] for rate in RANDOM_RATES]
        for consistency in CONSISTENCIES
    ]
    report.array("langfir_counts", np.array(counts, dtype=np.int32))
    for method, sweep in validated.items():
        report.array(f"sweep/{method}", sweep.table.astype(np.float32))
    for method, by_target in costs.items():
        report.array(f"ablation/{method}", by_target.mean(-1).astype(np.float32))


def report_counts(
    report: Report,
    settings: LanguageSteeringSettings,
    sentences: Sentences,
    latents: Mapping[str, LatentsByLanguage],
    headline: ScoresByLanguage,
) -> None:
    """Keep the counts: languages, sentences and how many are missing, empty answers, and latents by method."""
    wanted = {
        "train": settings.train_sentences,
        "validation": settings.validation_prompts,
        "test": settings.test_prompts,
    }
    report.count("languages", len(sentences.languages))
    for split, n in wanted.items():
        report.count(f"{split}_sentences", min(n, len(sentences.order[split])))
    for split, n in wanted.items():
        report.count(f"{split}_sentences_missing", max(0, n - len(sentences.order[split])))
    report.count("empty_continuations", sum(not text for scores in headline.values() for text in scores.texts))
    for method, by_language in latents.items():
        report.count(f"selected_latents/{method}", sum(map(len, by_language.values())))
    for method, by_language in latents.items():
        report.count(f"languages_without/{method}", sum(not len(indices) for indices in by_language.values()))


def report_notes(
    report: Report,
    best: str,
    tried: Mapping[str, Validated[Any]],
    latents: Mapping[str, LatentsByLanguage],
    identifier: str,
    headline: ScoresByLanguage,
) -> None:
    """Keep what was chosen for each method, the language identifier, and one answer in each language.

    Args:
        report: The report.
        best: The method of the headline.
        tried: The methods with strengths to choose from.
        latents: The latents that each method and the control used.
        identifier: The language identifier's package and version.
        headline: The scores of the headline.
    """
    report.note("method", best)
    report.note("strengths", {method: sweep.strength for method, sweep in tried.items()})
    as_lists = {
        method: {language: indices.tolist() for language, indices in by_language.items()}
        for method, by_language in latents.items()
    }
    report.note("latents", as_lists)
    report.note("identifier", identifier)
    report.note("continuations", {language: scores.texts[0] for language, scores in headline.items()})


def _report_scores(report: Report, sentences: Sentences, method: str, scores: ScoresByLanguage) -> None:
    for metric, values in _MEANS.items():
        for name, languages in _subsets(sentences, metric).items():
            parts = pooled({language: values(scores[language]) for language in languages}, scores)
            _report_ratio(report, metric, subset_name(method, name), parts)
    for metric, statistic in (("acc_bleu", _acc_bleu), ("bleu", _bleu)):
        for name, languages in _subsets(sentences, metric).items():
            estimate = jackknifed({language: scores[language] for language in languages}, statistic)
            report.estimate(metric, estimate, unit="sentence", why=_NOTHING, subset=subset_name(method, name))


def _report_difference(
    report: Report, sentences: Sentences, metric: str, method: str, scores: ScoresByLanguage, others: ScoresByLanguage
) -> None:
    """Add the accuracy of one method minus that of another, on the same sentences."""
    for name, languages in _groups(sentences).items():
        # A control may hold several draws of the same prompts, of which the mean is compared.
        hits = {language: others[language].hit.reshape(-1, len(scores[language].hit)).mean(0) for language in languages}
        differences = {language: scores[language].hit - hits[language] for language in languages}
        _report_ratio(report, metric, subset_name(method, name), pooled(differences, scores))


def _report_ratio(report: Report, metric: str, subset: str, parts: Ratio, why: str = _NOTHING) -> None:
    report.ratio(metric, parts, unit="sentence", why=why, subset=subset)


def _groups(sentences: Sentences) -> dict[str, Sequence[str]]:
    """Return all targets (""), and those in the source's script if there are any."""
    same = [target for target in sentences.targets if target in sentences.same_script]
    return {"": sentences.targets, **({SAME_SCRIPT: same} if same else {})}


def _subsets(sentences: Sentences, metric: str) -> dict[str, Sequence[str]]:
    """Return the targets of each subset of a metric: the groups, and for some metrics every target by itself."""
    single = sentences.targets if metric in _BY_LANGUAGE else ()
    return {**_groups(sentences), **{target: [target] for target in single}}


def pooled(values: Mapping[str, NDArray[np.float64]], scores: ScoresByLanguage) -> Ratio:
    """Sum a value of each continuation, ``values[language][n]``, over the languages that share a row of the set.

    Returns:
        The sums and the number of values in each, for every row that a language of ``values`` used; ``[rows]`` each.
    """
    places = np.concatenate([scores[language].places for language in values])
    _, row = np.unique(places, return_inverse=True)
    total = np.bincount(row, np.concatenate(list(values.values())))
    return total.astype(np.float64), np.bincount(row).astype(np.float64)


def jackknifed(
    scores: ScoresByLanguage, statistic: Callable[[ContinuationScores, NDArray[np.bool_]], float]
) -> Estimate:
    """Estimate a statistic that is no ratio of sums, leaving out one row of the set at a time.

    Args:
        scores: The scores that are averaged over, by language.
        statistic: Takes the scores of a language, and which of its continuations count, ``[n]``.

    Returns:
        The mean over languages. A language whose only row is left out does not count in the mean without that row.
    """
    places = np.unique(np.concatenate([language.places for language in scores.values()]))

    def mean(without: int) -> float:
        kept = {name: language.places != without for name, language in scores.items()}
        return float(
            np.mean([statistic(language, kept[name]) for name, language in scores.items() if kept[name].any()])
        )

    value = mean(-1)  # no row has the place -1
    return jackknife(value, np.array([mean(place) for place in places.tolist() if len(places) > 1]))


def _bleu(scores: ContinuationScores, kept: NDArray[np.bool_]) -> float:
    return bleu_from(scores.bleu[kept].sum(0))


def _acc_bleu(scores: ContinuationScores, kept: NDArray[np.bool_]) -> float:
    return float(scores.hit[kept].mean()) * _bleu(scores, kept)


def _own_and_others(
    costs: Costs, sentences: Sentences, targets: Sequence[str], compared: Sequence[str]
) -> tuple[Float[np.ndarray, "targets sentences"], Float[np.ndarray, "targets others sentences"]]:
    """Return what ablating the directions of ``targets`` costs there, and in each other language of ``compared``."""
    column = {language: number for number, language in enumerate(sentences.languages)}
    of_target = dict(zip(sentences.targets, costs, strict=True))
    own = np.stack([of_target[target][column[target]] for target in targets])
    others = np.stack(
        [of_target[target][[column[other] for other in compared if other != target]] for target in targets]
    )
    return own, others


def _margin(
    own: Float[np.ndarray, "targets sentences"], others: Float[np.ndarray, "targets others sentences"]
) -> Estimate:
    """Return the cost in the language minus that in the other language that suffers most, averaged over targets."""

    def mean(rows: NDArray[np.int64]) -> float:
        return float((own[:, rows].mean(1) - others[:, :, rows].mean(2).max(1)).mean())

    rows = np.arange(own.shape[1])
    return jackknife(mean(rows), np.array([mean(np.delete(rows, row)) for row in rows if len(rows) > 1]))
