"""Selective forgetting on test documents, and by how much a method exceeds a control, with intervals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from saebench.stats.intervals import Estimate
from saebench.stats.percentile import expanded_percentile
from saebench.tasks.unlearning.data.documents import SIDES
from saebench.tasks.unlearning.scoring.losses import Losses, Weights, selective
from saebench.tasks.unlearning.scoring.samples import Samples

Values = Float[np.ndarray, " 1+replicates"]  # of the documents as they are, and of every bootstrap sample of them


class Selectivity:
    """Selective forgetting and its differences, computed anew on every bootstrap sample of the documents.

    Several settings are draws of one control. Its value is their mean, and a bootstrap sample draws them anew, too.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def value(self, losses: Losses) -> Estimate:
        """The selective forgetting of a method or a control."""
        return self._estimate(self._values(losses), losses)

    def over(self, losses: Losses, control: Losses) -> Estimate:
        """The selective forgetting of a method minus that of a control, on the same samples of documents."""
        return self._estimate(self._values(losses) - self._values(control), losses)

    def _values(self, losses: Losses) -> Values:
        sides = {side: int(losses.known.side(side).sum()) for side in SIDES}
        weights: Weights = {side: self._samples.weights(n, side) for side, n in sides.items()}
        draws = len(losses.total)
        of_draw = self._samples.weights(draws, "draw") if draws > 1 else np.ones((self._samples.replicates, 1))
        replicates = (selective(losses, weights) * of_draw).sum(1) / draws
        return np.append(selective(losses).mean(), replicates)

    def _estimate(self, values: Values, losses: Losses) -> Estimate:
        n = min(int(losses.known.side(side).sum()) for side in SIDES)  # the sides are resampled separately
        return expanded_percentile(values, n)
