"""Which tokens are words of the topic, by how often the documents to fit on use them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from saebench.passes.context import TaskContext
from saebench.tasks.unlearning.data.documents import documents
from saebench.tasks.unlearning.settings import UnlearningSettings


class Vocabulary:
    """The tokens that the topic uses far more often than the retained texts do, and those that both use alike."""

    def __init__(self, forget: Int[np.ndarray, " v"], retain: Int[np.ndarray, " v"], ratio: float) -> None:
        """Divide the vocabulary.

        A token is a word of the topic if its rate on the forget side is at least ``ratio`` times that on the retain
        side, where each side is given one occurrence more. A token that neither side has is of neither kind.

        Args:
            forget: How often each token occurs in the forget side's documents, ``[vocabulary]``.
            retain: The same for the retain side.
            ratio: By how much more frequent a word of the topic is.
        """
        rates = [(counts + 1) / (counts.sum() + 1) for counts in (forget, retain)]
        self.topical: Bool[np.ndarray, " v"] = (rates[0] >= ratio * rates[1]) & (forget > 0)
        self.common: Bool[np.ndarray, " v"] = (forget + retain > 0) & ~self.topical

    def groups(self, tokens: Sequence[int]) -> Bool[np.ndarray, "2 n"]:
        """Whether each token is a word of the topic (row 0), and whether it is a common one (row 1)."""
        numbers = np.asarray(tokens, np.int64)
        return np.stack([self.topical[numbers], self.common[numbers]])


def vocabulary(context: TaskContext, settings: UnlearningSettings) -> Vocabulary:
    """The words of the topic; the same for every SAE. The documents to fit on are read in full for it."""
    fit = documents(context, settings)["fit"]
    key = ("unlearning", "vocabulary", tuple(fit.texts), settings.topic_ratio)

    def count(texts: list[str]) -> Int[np.ndarray, " v"]:
        ids = context.lm.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return np.bincount(np.concatenate([np.asarray(row, np.int64) for row in ids]), minlength=size)

    size = context.lm.head.vocab_size
    return context.shared(key, lambda: Vocabulary(count(fit.forget), count(fit.retain), settings.topic_ratio))
