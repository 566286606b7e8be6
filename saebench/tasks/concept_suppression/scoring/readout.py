"""The readout: a multinomial logistic regression that tells which concept a text is about from its hidden state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

# The inverse of the penalty, for standardised coordinates. Hidden states have more coordinates than there are examples:
# without a strong penalty the probabilities are 0 and 1, and say nothing about how sure the model is.
_C = 0.01
_ITERATIONS = 1000
_SMALLEST = 1e-6  # a coordinate whose spread, relative to the largest, is below this counts as constant


class ConceptReadout:
    """Tells concepts from mean final hidden states. It is fitted to the unmodified model only."""

    def __init__(self, hidden: Tensor, labels: NDArray[np.int64]) -> None:
        """Fit to ``hidden[texts, d_model]``; every label must occur."""
        x = hidden.double().numpy()
        self._mean, spread = x.mean(0), x.std(0)
        self._scale = np.where(spread > _SMALLEST * spread.max(), spread, np.inf)
        self._model = LogisticRegression(C=_C, max_iter=_ITERATIONS).fit(self._standardised(hidden), labels)

    def __call__(self, hidden: Tensor) -> NDArray[np.float64]:
        """The probability of each concept, ``[texts, concepts]``."""
        return np.asarray(self._model.predict_proba(self._standardised(hidden)), np.float64)

    def _standardised(self, hidden: Tensor) -> NDArray[np.float64]:
        return (hidden.double().numpy() - self._mean) / self._scale
