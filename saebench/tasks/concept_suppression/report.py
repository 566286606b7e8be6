"""Outcomes as measurements: averages over the examples of all concepts, and over sequences of general text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from saebench.evaluation import Report
from saebench.evaluation.changes import DIFFMEAN, Setting
from saebench.passes.context import TaskContext
from saebench.stats.frontier import hypervolume
from saebench.stats.intervals import Estimate, bootstrap_ratio, resampling_weights
from saebench.stats.percentile import expanded_percentile
from saebench.tasks.concept_suppression.data import SPLITS, DividedSet
from saebench.tasks.concept_suppression.methods import NEURONS, Basis
from saebench.tasks.concept_suppression.scoring.outcome import Array, Outcome, Side, cost_at_drop
from saebench.tasks.concept_suppression.scoring.scorer import MeasuredSweeps, SuppressionScorer
from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings

MAX_RATIO = 1.5  # the perplexity ratio up to which the area under the trade-off goes
_NOTED = 10  # latents of each concept that the notes of a record name
_NO_WEIGHT = "no example stands behind it"


class SuppressionReport:
    """Adds outcomes to the report of one SAE. All SAEs share the bootstrap draws."""

    def __init__(
        self, report: Report, scorer: SuppressionScorer, context: TaskContext, settings: ConceptSuppressionSettings
    ) -> None:
        self._report, self._scorer, self._level = report, scorer, settings.equal_drop
        self._design, replicates = scorer.design("test"), settings.bootstrap_replicates
        self._examples = _example_draws(context, scorer.sets, replicates)  # [replicates, examples]
        n_sequences = len(self._design.predictions)
        self._sequences = context.bootstrap_weights(n_sequences, replicates)  # [replicates, sequences]

    def headline(self, ours: MeasuredSweeps, references: Mapping[str, Outcome]) -> None:
        """Add the chosen setting of the SAE, the references and the differences from them, and single concepts."""
        chosen = ours.tested(ours.best)
        self._setting("", chosen)
        for name, outcome in references.items():
            self._setting(name, outcome)
            drop = self._design.contributions(chosen.accuracy[0] - outcome.accuracy[0], "target")
            self._ratio(f"target_drop_over_{name}", "", *drop)
            selective = self._design.selective(chosen.confidence[0] - outcome.confidence[0])
            self._ratio(f"selective_drop_over_{name}", "", *selective)
        for number, concept in enumerate(self._scorer.concepts):
            drops = chosen.accuracy[0, number]
            for metric, members in (("target_drop", self._design.target), ("complement_drop", self._design.complement)):
                member = members[number]
                self._ratio(metric, concept, np.where(member, drops, 0.0), member.astype(np.float64))

    def readout(self) -> None:
        """Add the accuracy of the readout on the unmodified model."""
        right = self._scorer.clean_accuracy("test")
        self._ratio("readout_accuracy", "", right, np.ones_like(right))

    def trade_off(self, subset: str, outcome: Outcome) -> None:
        """Add the costs where the target drop first reaches ``equal_drop``, and the area under it."""
        drop, complement, log_ratio = self._averages(outcome)
        why = f"the target drop reaches {self._level:g} at none of its strengths"
        self._sampled("perplexity_ratio_at_drop", subset, np.exp(cost_at_drop(drop, log_ratio, self._level)), why)
        self._sampled("complement_drop_at_drop", subset, cost_at_drop(drop, complement, self._level), why)
        areas = [
            hypervolume(effect, cost, max_effect=1.0, max_cost=float(np.log(MAX_RATIO)))
            for effect, cost in zip(drop, log_ratio, strict=True)
        ]
        self._sampled("suppression_area", subset, np.array(areas), None)

    def sweeps(self, sweeps: MeasuredSweeps) -> None:
        """Add the chosen setting and the trade-off of each method, and keep what every strength did as arrays.

        The difference in means has no setting to add: its only method is the reference of that name.
        """
        for method, outcome in sweeps.test.items():
            if method != DIFFMEAN:
                self._setting(method, sweeps.tested(sweeps.best_of[method]))
            self.trade_off(method, outcome)
        for split, outcomes in zip(SPLITS, (sweeps.validation, sweeps.test), strict=True):
            design = self._scorer.design(split)
            for method, outcome in outcomes.items():
                averages = {
                    "strength": np.array(outcome.strengths),
                    "target_drop": design.by_concept(outcome.accuracy, "target"),
                    "complement_drop": design.by_concept(outcome.accuracy, "complement"),
                    "target_confidence_drop": design.by_concept(outcome.confidence, "target"),
                    "complement_confidence_drop": design.by_concept(outcome.confidence, "complement"),
                    "log_perplexity_ratio": design.log_ratio(outcome.nats),
                }
                for name, values in averages.items():  # [strengths, concepts]
                    self._report.array(f"sweep/{split}/{method}/{name}", values.astype(np.float32))

    def counts(self) -> None:
        """Count what the measurements are from."""
        self._report.count("concepts", len(self._scorer.concepts))
        self._report.count("examples", self._design.target.shape[1])
        self._report.count("validation_examples", self._scorer.design("validation").target.shape[1])
        self._report.count("sequences", len(self._design.predictions))
        self._report.count("predictions", int(self._design.predictions.sum()))

    def choice(self, basis: Basis, chosen: Mapping[str, Setting]) -> None:
        """Note the chosen settings by subset and the best latents of each concept, and count the changed latents."""
        best = chosen[""]
        ranked = [latents for of_set in basis.ranked for latents in of_set]
        best_latents = [latents[:_NOTED].tolist() for latents in ranked]
        changed = best.strength is not None
        self._report.note("method", best.method if changed else "none: no setting suppresses within the limits")
        self._report.note("neurons_method", chosen[NEURONS].method)
        self._report.note("strengths", {subset: setting.strength or 0.0 for subset, setting in chosen.items()})
        self._report.note("latents", dict(zip(self._scorer.concepts, best_latents, strict=True)))
        self._report.count("selected_latents", basis.count(int(best.strength or 0)))
        self._report.count("concepts_without_latents", sum(not len(latents) for latents in ranked))

    # ------------------------------------------------------------------ inside

    def _setting(self, subset: str, outcome: Outcome) -> None:
        """Add everything about one setting; ``outcome`` has its strength alone."""
        drops: tuple[tuple[str, Side, Array], ...] = (
            ("target_drop", "target", outcome.accuracy),
            ("complement_drop", "complement", outcome.accuracy),
            ("target_confidence_drop", "target", outcome.confidence),
            ("complement_confidence_drop", "complement", outcome.confidence),
        )
        for metric, side, values in drops:
            self._ratio(metric, subset, *self._design.contributions(values[0], side))
        self._ratio("selective_drop", subset, *self._design.selective(outcome.confidence[0]))
        self._perplexity(subset, outcome)

    def _ratio(self, metric: str, subset: str, num: Array, den: Array) -> None:
        self._report.ratio(metric, (num, den), unit="example", why=_NO_WEIGHT, subset=subset, weights=self._examples)

    def _perplexity(self, subset: str, outcome: Outcome) -> None:
        """Add exp of the mean rise of the cross-entropy: the geometric mean of the ratios of the concepts."""
        num, den = outcome.nats[0].mean(0), self._design.predictions
        log = bootstrap_ratio(num, den, self._sequences)
        value = float(np.exp(log.value))
        low, high = float(np.exp(log.ci_low)), float(np.exp(log.ci_high))
        ratio = Estimate(value, value * log.stderr, low, high, log.n, log.method)
        # Linearised contributions: their mean is the ratio, and their spread gives its standard error.
        parts = value * (1 + (num - log.value * den) * len(den) / den.sum())
        self._report.estimate(
            "perplexity_ratio",
            ratio,
            unit="sequence",
            why=_NO_WEIGHT,
            subset=subset,
            parts=(parts, np.ones_like(parts)),
        )

    def _averages(self, outcome: Outcome) -> tuple[Array, Array, Array]:
        """Target drop, complement drop and log perplexity ratio, ``[1 + replicates, strengths]``, the sample first."""

        def averages(weights: Array, num: Array, den: Array) -> Array:
            every = np.concatenate([np.ones_like(weights[:1]), weights])
            return (every @ num.T) / (every @ den)[:, None]

        drop = averages(self._examples, *self._design.contributions(outcome.accuracy, "target"))
        complement = averages(self._examples, *self._design.contributions(outcome.accuracy, "complement"))
        return drop, complement, averages(self._sequences, outcome.nats.mean(1), self._design.predictions)

    def _sampled(self, metric: str, subset: str, values: Array, why: str | None) -> None:
        """Add ``values[0]``, with an interval from the replicates after it where all of them have a value."""
        n = self._design.target.shape[1]
        estimate = expanded_percentile(values, min(n, len(self._design.predictions)))
        estimate = replace(estimate, n=n)
        self._report.estimate(metric, estimate, unit="example", why=why, subset=subset)


def _example_draws(context: TaskContext, sets: Sequence[DividedSet], replicates: int) -> Array:
    """Bootstrap draws ``[replicates, examples]`` in which each concept keeps its number of examples.

    The draws of a set do not depend on the others.
    """

    def draw(labelled_set: DividedSet) -> Array:
        rng = context.rng("concept_suppression:bootstrap", labelled_set.content_hash)
        sizes = labelled_set.test.target.sum(1).tolist()
        return np.concatenate([resampling_weights(size, replicates, rng) for size in sizes], axis=1)

    key = ("concept_suppression", "bootstrap", *((s.content_hash, *s.test.target.sum(1).tolist()) for s in sets))
    return context.shared((*key, replicates), lambda: np.concatenate([draw(one) for one in sets], axis=1))
