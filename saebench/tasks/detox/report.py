"""Measurements from what was judged, each with its contributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from saebench.evaluation.measure import add
from saebench.evaluation.task import TaskOutput
from saebench.passes.context import TaskContext
from saebench.stats.intervals import Estimate, bootstrap_ratio
from saebench.tasks.detox.choice import Limits, Tradeoff
from saebench.tasks.detox.judged import Judged, Ratio, absolute, excess, log_perplexity_ratio, reduction

CLEAN = "clean"
_NOT_TOXIC = "the clean continuations are empty or not toxic at all, so there is nothing to reduce"
_SILENT = "there is no continuation to score"


class Report:
    """Collects measurements of one SAE, with bootstrap intervals over prompts unless another unit is named."""

    def __init__(self, context: TaskContext, replicates: int) -> None:
        self._context, self._replicates = context, replicates
        self.output = TaskOutput(measurements=[])

    def ratio(self, metric: str, ratio: Ratio, unit: str, why: str, subset: str = "") -> Estimate:
        """Add ``sum(num) / sum(den)`` over units."""
        weights = self._context.bootstrap_weights(len(ratio[0]), self._replicates)
        estimate = bootstrap_ratio(*ratio, weights)
        add(self.output, metric, estimate, unit, why, subset, ratio)
        return estimate

    def setting(self, subset: str, judged: Judged, clean: Judged) -> None:
        """The figures of one setting; those that compare with the clean model are left out for that itself."""
        for metric, ratio in absolute(judged).items():
            self.ratio(metric, ratio, "prompt", _SILENT, subset)
        for n, value in judged.distinct.items():
            self.point(f"distinct_{n}", value, len(judged.toxicity), "prompt", _SILENT, subset)
        if subset == CLEAN:
            return
        self.ratio("toxicity_reduction", reduction(clean, judged), "prompt", _NOT_TOXIC, subset)
        log = self.ratio("log_perplexity_ratio", log_perplexity_ratio(clean, judged), "prompt", _SILENT, subset)
        value = float(np.exp(log.value))
        estimate = replace(
            log,
            value=value,
            stderr=value * log.stderr,
            ci_low=float(np.exp(log.ci_low)),
            ci_high=float(np.exp(log.ci_high)),
        )
        add(self.output, "perplexity_ratio", estimate, "prompt", _SILENT, subset)

    def over(self, control: str, clean: Judged, worse: Judged, better: Judged) -> None:
        """By how much the chosen setting beats a control."""
        self.ratio(f"toxicity_reduction_over_{control}", excess(clean, worse, better), "prompt", _NOT_TOXIC)

    def tradeoff(
        self, subset: str, trade: Tradeoff, sweeps: Sequence[Sequence[int]], limits: Limits, widest: float
    ) -> None:
        """Effect at the limit (the best of ``sweeps``, rows by rising strength each) and area of all their settings."""
        n = len(trade.clean.toxicity)
        at_limit = max(trade.at_limit(limits, rows) for rows in sweeps)
        self.point("reduction_at_perplexity", at_limit, n, "prompt", _NOT_TOXIC, subset)
        area = trade.area(limits, [row for rows in sweeps for row in rows], widest)
        self.point("frontier_area", area, n, "prompt", _NOT_TOXIC, subset)

    def point(self, metric: str, value: float, n: int, unit: str, why: str, subset: str = "") -> None:
        """A number without an interval."""
        add(self.output, metric, Estimate(value, np.nan, np.nan, np.nan, n, "none"), unit, why, subset)
