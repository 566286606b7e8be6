"""Bootstrap samples of documents and questions, and the intervals of what is computed anew on each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saebench.passes.context import TaskContext
from saebench.stats.intervals import CONFIDENCE, Estimate, resampling_weights
from saebench.stats.rng import NO_CONTENT


@dataclass(frozen=True)
class Samples:
    """Bootstrap samples: those of both sides are drawn separately, and are the same for every SAE and method."""

    context: TaskContext
    replicates: int

    def weights(self, n: int, unit: str) -> Float[np.ndarray, "replicates n"]:
        """How often each of ``n`` units of one kind is drawn in each sample; ``unit`` names the kind."""

        def draw() -> Float[np.ndarray, "replicates n"]:
            return resampling_weights(
                n, self.replicates, self.context.rng(f"unlearning:bootstrap:{unit}", NO_CONTENT, n)
            )

        return self.context.shared(("unlearning", "bootstrap", unit, n, self.replicates), draw)


def percentile(values: Float[np.ndarray, " 1+replicates"], n: int) -> Estimate:
    """The percentile interval (Efron 1979) of a value that is computed anew on every sample.

    It is not BCa, because values that cannot be below 0 are 0 on many samples.

    Args:
        values: The value itself, followed by those on the bootstrap samples.
        n: The number of units behind it.

    Returns:
        The value with its interval, which is NaN for fewer than two units, and where a sample has no finite value.
    """
    value, replicates = float(values[0]), values[1:]
    if n < 2 or not np.isfinite(replicates).all():
        return Estimate(value, np.nan, np.nan, np.nan, n, "percentile-bootstrap")
    low, high = np.quantile(replicates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(replicates.std(ddof=1)), float(low), float(high), n, "percentile-bootstrap")
