"""How well scores of texts tell toxic from neutral ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def auroc_contributions(scores: NDArray[np.float64], toxic: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Contributions to the AUROC of ``scores[texts]``, ``[pairs]``: their mean is the AUROC.

    The contribution of a pair, the toxic and the neutral text at the same place of their lists, is the share of
    neutral texts below the toxic one, plus the share of toxic texts above the neutral one, minus the AUROC; ties count
    half. So their spread is that of DeLong's estimate. There must be as many toxic as neutral texts.
    """
    toxic_scores, neutral_scores = scores[toxic], scores[~toxic]
    n = len(toxic_scores)
    ranks = rankdata(np.concatenate([toxic_scores, neutral_scores]))
    below = (ranks[:n] - rankdata(toxic_scores)) / n  # neutral texts below each toxic one
    above = 1 - (ranks[n:] - rankdata(neutral_scores)) / n  # toxic texts above each neutral one
    return below + above - below.mean()
