"""Outcomes into measurements: over examples of all concepts alike, and over sequences of general text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.stats.frontier import hypervolume
from saebench.stats.intervals import CONFIDENCE, Estimate, bootstrap_ratio
from saebench.tasks.concept_suppression.outcome import Array, Design, Outcome, Side, cost_at_drop

MAX_RATIO = 1.5  # of perplexity: how far the area under the trade-off goes

_NO_WEIGHT = "no example stands behind it"


class Figures:
    """Measurements of one SAE on the examples to test on."""

    def __init__(self, output: TaskOutput, design: Design, of_examples: Array, of_sequences: Array) -> None:
        """The bootstrap's draws are ``[replicates, examples]`` and ``[replicates, sequences]``."""
        self.output, self.design = output, design
        self._examples, self._sequences = of_examples, of_sequences

    def chosen(self, subset: str, outcome: Outcome) -> None:
        """Everything about one setting: ``outcome`` has that strength alone."""
        figures: tuple[tuple[str, Side, Array], ...] = (
            ("target_drop", "target", outcome.accuracy),
            ("complement_drop", "complement", outcome.accuracy),
            ("target_confidence_drop", "target", outcome.confidence),
            ("complement_confidence_drop", "complement", outcome.confidence),
        )
        for metric, side, values in figures:
            num, den = self.design.contributions(values[0], side)
            self._ratio(metric, subset, num, den)
        self._perplexity(subset, outcome)

    def over(self, reference: str, ours: Outcome, theirs: Outcome) -> None:
        """Paired difference of the target drops of two chosen settings."""
        num, den = self.design.contributions(ours.accuracy[0] - theirs.accuracy[0], "target")
        self._ratio(f"target_drop_over_{reference}", "", num, den)

    def of_concept(self, subset: str, concept: int, outcome: Outcome) -> None:
        """Drops of one concept at the chosen setting."""
        for metric, member in (
            ("target_drop", self.design.target[concept]),
            ("complement_drop", self.design.complement[concept]),
        ):
            num = np.where(member, outcome.accuracy[0, concept], 0.0)
            self._ratio(metric, subset, num, member.astype(np.float64))

    def readout(self, right: Array) -> None:
        """Accuracy of the readout on the clean model."""
        self._ratio("readout_accuracy", "", right, np.ones_like(right))

    def trade_off(self, subset: str, outcome: Outcome, level: float) -> None:
        """Costs where the target drop first reaches ``level``, and the area under the drop, over all strengths."""
        drop, complement, log_ratio = self._averages(outcome)
        why = f"the target drop reaches {level:g} at none of its strengths"
        at = cost_at_drop(drop, log_ratio, level)
        self._add_sampled("perplexity_ratio_at_drop", subset, np.exp(at), why)
        self._add_sampled("complement_drop_at_drop", subset, cost_at_drop(drop, complement, level), why)
        areas = [
            hypervolume(d, c, max_effect=1.0, max_cost=float(np.log(MAX_RATIO)))
            for d, c in zip(drop, log_ratio, strict=True)
        ]
        self._add_sampled("suppression_area", subset, np.array(areas), "")

    # ------------------------------------------------------------------ inside

    def _ratio(self, metric: str, subset: str, num: Array, den: Array) -> None:
        add(
            self.output,
            metric,
            bootstrap_ratio(num, den, self._examples),
            "example",
            _NO_WEIGHT,
            subset,
            (num, den),
        )

    def _perplexity(self, subset: str, outcome: Outcome) -> None:
        """exp of the mean rise of the cross-entropy: the geometric mean over concepts of the ratios."""
        num, den = outcome.nats[0].mean(0), self.design.predictions
        log = bootstrap_ratio(num, den, self._sequences)
        value = float(np.exp(log.value))
        low, high = float(np.exp(log.ci_low)), float(np.exp(log.ci_high))
        ratio = Estimate(value, value * log.stderr, low, high, log.n, log.method)
        # Linearised, so that their mean is the ratio and their spread gives its standard error.
        parts = value * (1 + (num - log.value * den) * len(den) / den.sum())
        add(self.output, "perplexity_ratio", ratio, "sequence", _NO_WEIGHT, subset, (parts, np.ones_like(parts)))

    def _averages(self, outcome: Outcome) -> tuple[Array, Array, Array]:
        """Target drop, complement drop and log perplexity ratio ``[1 + replicates, strengths]``, the sample's first."""

        def of(weights: Array, num: Array, den: Array) -> Array:
            every = np.concatenate([np.ones_like(weights[:1]), weights])
            return (every @ num.T) / (every @ den)[:, None]

        drop = of(self._examples, *self.design.contributions(outcome.accuracy, "target"))
        complement = of(self._examples, *self.design.contributions(outcome.accuracy, "complement"))
        return drop, complement, of(self._sequences, outcome.nats.mean(1), self.design.predictions)

    def _add_sampled(self, metric: str, subset: str, values: Array, why: str) -> None:
        """A value and its replicates; a percentile interval where all replicates have a value."""
        value, replicates = float(values[0]), values[1:]
        n = self.design.target.shape[1]
        if np.isfinite(replicates).all() and np.isfinite(value):
            low, high = np.quantile(replicates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            estimate = Estimate(
                value, float(replicates.std(ddof=1)), float(low), float(high), n, "percentile-bootstrap"
            )
        else:
            estimate = Estimate(value, np.nan, np.nan, np.nan, n, "none")
        add(self.output, metric, estimate, "example", why, subset)


def sweep_arrays(split: str, outcomes: Mapping[str, Outcome], design: Design) -> dict[str, np.ndarray]:
    """Every setting that was tried, ``[strengths, concepts]`` by ``sweep/SPLIT/METHOD/FIGURE``; small."""
    figures: dict[str, Callable[[Outcome], Array]] = {
        "target_drop": lambda o: design.by_concept(o.accuracy, "target"),
        "complement_drop": lambda o: design.by_concept(o.accuracy, "complement"),
        "target_confidence_drop": lambda o: design.by_concept(o.confidence, "target"),
        "complement_confidence_drop": lambda o: design.by_concept(o.confidence, "complement"),
        "log_perplexity_ratio": lambda o: design.log_ratio(o.nats),
    }
    found: dict[str, np.ndarray] = {}
    for method, outcome in outcomes.items():
        found[f"sweep/{split}/{method}/strength"] = np.array(outcome.strengths, np.float32)
        for name, figure in figures.items():
            found[f"sweep/{split}/{method}/{name}"] = figure(outcome).astype(np.float32)
    return found
