"""Bootstrap samples of documents, questions and random draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saebench.passes.context import TaskContext
from saebench.stats.intervals import resampling_weights
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
