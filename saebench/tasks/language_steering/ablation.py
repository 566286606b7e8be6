"""What ablating directions costs in each language: cross-entropy on a few tokens of the test sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from saebench.interventions.base import Intervention
from saebench.passes.context import TaskContext
from saebench.passes.scored import Item, ScoredItems
from saebench.tasks.language_steering.sentences import Sentences, token_ids


class Ablation:
    """The first ``n`` test sentences of every language, scored on ``predictions`` tokens each."""

    def __init__(
        self, context: TaskContext, sentences: Sentences, n: int, predictions: int, context_length: int, site: str
    ) -> None:
        texts = sentences.first("test", n)
        self.languages = sentences.languages
        self.rows = len(texts[sentences.source])
        items = [
            _item(tokens[:context_length], predictions)
            for language in self.languages
            for tokens in token_ids(context, texts[language])
        ]
        self._scored: ScoredItems = context.scored(items, site)

    def costs(
        self, interventions: Sequence[Intervention | None], description: str
    ) -> Float[np.ndarray, "interventions languages rows"]:
        """Mean rise in cross-entropy of each sentence, in nats per token; 0 where there is no intervention."""
        found = np.zeros((len(interventions), len(self.languages), self.rows))
        given = [(place, each) for place, each in enumerate(interventions) if each is not None]
        if given:
            rise = self._scored.under([each for _, each in given], description) - self._scored.clean
            means = self._scored.per_item(rise) / self._scored.counts
            found[[place for place, _ in given]] = means.numpy().reshape(len(given), len(self.languages), self.rows)
        return found


def _item(tokens: Sequence[int], predictions: int) -> Item:
    """Evenly spaced places. The first token after BOS is predicted from BOS alone, which no intervention changes."""
    places = np.arange(min(2, len(tokens) - 1), len(tokens))
    if predictions < len(places):
        places = places[(2 * np.arange(predictions) + 1) * len(places) // (2 * predictions)]
    return Item(tuple(tokens), tuple(places.tolist()))
