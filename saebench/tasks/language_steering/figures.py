"""Measurements over rows of the parallel set: one sentence in all languages is one unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from saebench.evaluation.measure import Contributions, add
from saebench.evaluation.task import TaskOutput
from saebench.passes.context import TaskContext
from saebench.scorers import bleu_from
from saebench.stats.intervals import Estimate, bootstrap_ratio, jackknife
from saebench.tasks.language_steering.sentences import Sentences
from saebench.tasks.language_steering.steering import ByLanguage, Scores

SAME_SCRIPT = "same_script"
_UNIT = "sentence"

# Of each continuation, a number; their mean is the metric.
_MEANS: dict[str, Callable[[Scores], NDArray[np.float64]]] = {
    "accuracy": lambda scores: scores.hit,
    "acc_chrf": lambda scores: scores.hit_chrf,
    "chrf": lambda scores: scores.chrf,
    "degenerate_share": lambda scores: scores.degenerate.astype(np.float64),
}
_BY_LANGUAGE = ("accuracy", "acc_chrf", "acc_bleu", "ablation_selectivity")  # the others for groups of languages only


class Figures:
    """Into an output: every metric for all target languages, those of the source's script, and each alone."""

    def __init__(self, context: TaskContext, sentences: Sentences, replicates: int) -> None:
        self.out = TaskOutput(measurements=[])
        self._context, self._sentences, self._replicates = context, sentences, replicates
        same = [target for target in sentences.targets if target in sentences.same_script]
        self._groups: dict[str, Sequence[str]] = {"": sentences.targets}
        if same:
            self._groups[SAME_SCRIPT] = same
        self._languages: dict[str, Sequence[str]] = {target: [target] for target in sentences.targets}

    def steering(self, method: str, scores: ByLanguage) -> None:
        """What continuations are worth. ``method`` "" is the headline."""
        for metric, values in _MEANS.items():
            for name, languages in self._where(metric):
                parts = pooled({each: values(scores[each]) for each in languages}, scores)
                self._ratio(metric, _subset(method, name), parts)
        for name, languages in self._where("acc_bleu"):
            some = {each: scores[each] for each in languages}
            self._estimate("acc_bleu", _subset(method, name), jackknifed(some, _acc_bleu))
        for name, languages in self._groups.items():
            some = {each: scores[each] for each in languages}
            self._estimate("bleu", _subset(method, name), jackknifed(some, _bleu))

    def over(self, metric: str, method: str, scores: ByLanguage, baseline: ByLanguage) -> None:
        """The accuracy of one method minus that of another, on the same sentences."""
        for name, languages in self._groups.items():
            differences = {each: scores[each].hit - baseline[each].hit for each in languages}
            self._ratio(metric, _subset(method, name), pooled(differences, scores))

    def ablation(self, method: str, costs: Float[np.ndarray, "targets languages rows"]) -> None:
        """What ablating each target's directions costs there, and in the other languages."""
        sentences = self._sentences
        ones = np.ones(costs.shape[-1])
        for name, languages in self._where("ablation_selectivity"):
            tested = sentences.same_script if name == SAME_SCRIPT else sentences.languages
            own, others = _own_and_others(costs, sentences, languages, tested)
            subset = _subset(method, name)
            self._ratio("ablation_selectivity", subset, ((own - others.mean(1)).mean(0), ones))
            if name not in self._groups:
                continue
            own_mean, others_mean = own.mean(0), others.mean(1).mean(0)
            self._ratio("ablation_own", subset, (own_mean, ones))
            self._ratio("ablation_others", subset, (others_mean, ones))
            positive = others_mean.sum() > 0
            parts = (own_mean, others_mean if positive else np.zeros_like(ones))
            self._ratio("ablation_ratio", subset, parts, "ablation costs the other languages nothing")
            self._estimate("ablation_margin", subset, _margin(own, others))

    def latents(self, method: str, found: Mapping[str, int]) -> None:
        """How many latents belong to each language (the source too), on average and one by one."""
        self._count("latents_per_language", method, float(np.mean(list(found.values()))), len(found))
        for language, n in found.items():
            self._count("latents_per_language", _subset(method, language), n, 1)

    def share(self, metric: str, part: int, whole: int, why: str) -> None:
        """A share of latents, without an interval."""
        value = part / whole if whole else np.nan
        add(self.out, metric, Estimate(value, np.nan, np.nan, np.nan, whole, "none"), "latent", why)

    def _where(self, metric: str) -> list[tuple[str, Sequence[str]]]:
        return [*self._groups.items(), *(self._languages.items() if metric in _BY_LANGUAGE else ())]

    def _ratio(self, metric: str, subset: str, parts: Contributions, why: str = "nothing was scored") -> None:
        weights = self._context.bootstrap_weights(len(parts[0]), self._replicates)
        add(self.out, metric, bootstrap_ratio(*parts, weights), _UNIT, why, subset, parts)

    def _estimate(self, metric: str, subset: str, estimate: Estimate) -> None:
        add(self.out, metric, estimate, _UNIT, "nothing was scored", subset)

    def _count(self, metric: str, subset: str, value: float, n: int) -> None:
        add(self.out, metric, Estimate(value, np.nan, np.nan, np.nan, n, "none"), "language", None, subset)


def pooled(values: Mapping[str, NDArray[np.float64]], scores: ByLanguage) -> Contributions:
    """Sums of ``values[language][n]`` over languages, and how many there are, for each row that any of them used."""
    places = np.concatenate([scores[language].places for language in values])
    _, row = np.unique(places, return_inverse=True)
    total = np.bincount(row, np.concatenate(list(values.values())))
    return total.astype(np.float64), np.bincount(row).astype(np.float64)


def jackknifed(scores: ByLanguage, statistic: Callable[[Scores, NDArray[np.bool_]], float]) -> Estimate:
    """Mean over languages of ``statistic(scores, kept)``, leaving out one row of the set at a time.

    For figures that are no ratio of sums. A language drops out of a mean that leaves out its only row.
    """
    places = np.unique(np.concatenate([each.places for each in scores.values()]))

    def mean(without: int) -> float:
        kept = {language: each.places != without for language, each in scores.items()}
        return float(np.mean([statistic(each, kept[name]) for name, each in scores.items() if kept[name].any()]))

    value = mean(-1)
    return jackknife(value, np.array([mean(place) for place in places.tolist() if len(places) > 1]))


def _bleu(scores: Scores, kept: NDArray[np.bool_]) -> float:
    return bleu_from(scores.bleu[kept].sum(0))


def _acc_bleu(scores: Scores, kept: NDArray[np.bool_]) -> float:
    return float(scores.hit[kept].mean()) * _bleu(scores, kept)


def _own_and_others(
    costs: Float[np.ndarray, "targets languages rows"],
    sentences: Sentences,
    languages: Sequence[str],
    tested: Sequence[str],
) -> tuple[Float[np.ndarray, "some rows"], Float[np.ndarray, "some others rows"]]:
    """Of each of ``languages`` what ablating its directions costs there, and in each other one of ``tested``."""
    column = {language: number for number, language in enumerate(sentences.languages)}
    of = {target: costs[number] for number, target in enumerate(sentences.targets)}
    own = np.stack([of[each][column[each]] for each in languages])
    others = np.stack([of[each][[column[other] for other in tested if other != each]] for each in languages])
    return own, others


def _margin(own: Float[np.ndarray, "some rows"], others: Float[np.ndarray, "some others rows"]) -> Estimate:
    """Own cost minus that of the language that suffers most, averaged over languages."""

    def mean(rows: NDArray[np.int64]) -> float:
        return float((own[:, rows].mean(1) - others[:, :, rows].mean(2).max(1)).mean())

    rows = np.arange(own.shape[1])
    return jackknife(mean(rows), np.array([mean(np.delete(rows, row)) for row in rows if len(rows) > 1]))


def _subset(method: str, name: str) -> str:
    return "/".join(part for part in (method, name) if part)
