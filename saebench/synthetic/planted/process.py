"""The process that texts come from: a state for each document, and words that depend on it and on the word before.

p(word | state, before) is proportional to base(word | state) exp(bigram[lemma before, lemma]). It is known, so that the
entropy of the process is known, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saebench.stats.rng import generator
from saebench.synthetic.planted.words import FUNCTION, MARKER, SUBTOPIC, TOPIC, TOXIC, Vocabulary

_SHARES = {
    FUNCTION: 0.34,
    TOPIC: 0.22,
    SUBTOPIC: 0.2,
    MARKER: 0.09,
    TOXIC: 0.16,
}  # of the words, before they are scaled
_RANK = 6  # of the dependence on the word before
_ZIPF = 0.7  # the probability of topic k is proportional to (k + 1) ** -_ZIPF
_CHUNK = 256  # documents that are drawn at a time


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class States:
    """The states that decide which words documents have, with one row for each document.

    Attributes:
        language: The number of its language.
        topic: Its topic, -1 for none.
        subtopic: Its subtopic, numbered over all topics, -1 for none.
        markers: Which binary concepts it has, ``[documents, markers]``.
        toxic: Whether its tone is toxic.
    """

    language: NDArray[np.int64]
    topic: NDArray[np.int64]
    subtopic: NDArray[np.int64]
    markers: NDArray[np.bool_]
    toxic: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.language)

    def rows(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> States:
        """Return some of the documents."""
        return States(self.language[rows], self.topic[rows], self.subtopic[rows], self.markers[rows], self.toxic[rows])


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Process:
    """The process over a vocabulary."""

    vocabulary: Vocabulary
    seed: int

    @cached_property
    def bigram(self) -> NDArray[np.float64]:
        """By how much the lemma before raises the log-probability of each lemma, ``[lemmas + 1, lemmas]``.

        The last row, for words without one before, is 0.
        """
        n = len(self.vocabulary.kind)
        rng = generator(self.seed, "planted:bigram")
        left, right = rng.standard_normal((n, _RANK)), rng.standard_normal((n, _RANK))
        return np.concatenate([self.vocabulary.recipe.bigram * left @ right.T / np.sqrt(_RANK), np.zeros((1, n))])

    def states(self, n: int, rng: np.random.Generator) -> States:
        """Draw the states of ``n`` documents. Two binary concepts depend on tone and topic, and one on another."""
        recipe = self.vocabulary.recipe
        p = (1.0 + np.arange(recipe.topics)) ** -_ZIPF
        topic = rng.choice(recipe.topics, size=n, p=p / p.sum())
        subtopic = topic * recipe.subtopics + rng.integers(recipe.subtopics, size=n)
        absent = rng.random(n) < recipe.no_topic
        topic, subtopic = np.where(absent, -1, topic), np.where(absent, -1, subtopic)
        toxic = rng.random(n) < recipe.toxic
        chance = np.full((n, recipe.markers), 0.4)
        chance[:, 0] = np.where(toxic, 0.6, 0.35)
        chance[:, 1 % recipe.markers] = np.where(topic % 2 == 0, 0.6, 0.25)
        markers = rng.random((n, recipe.markers)) < chance
        if recipe.markers > 1:
            markers[:, -1] &= markers[:, -2]
        return States(rng.integers(recipe.languages, size=n), topic, subtopic, markers, toxic)

    def lemmas(self, states: States) -> NDArray[np.float64]:
        """Return how probable each lemma is in each document, without the word before, ``[documents, lemmas]``."""
        kind, owner, recipe = self.vocabulary.kind, self.vocabulary.owner, self.vocabulary.recipe
        present = {
            FUNCTION: np.ones((len(states), 1), dtype=bool),
            TOPIC: states.topic[:, None] == np.arange(recipe.topics),
            SUBTOPIC: states.subtopic[:, None] == np.arange(self.vocabulary.n_subtopics),
            MARKER: states.markers,
            TOXIC: states.toxic[:, None],
        }
        out = np.zeros((len(states), len(kind)))
        for number, there in present.items():
            of_kind = np.flatnonzero(kind == number)
            each = np.bincount(owner[of_kind]).max()  # the number of words of one owner
            out[:, of_kind] = there[:, owner[of_kind]] * _SHARES[number] / each
        return out

    def predict(
        self, states: States, base: NDArray[np.float64], before: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the probabilities of lemmas and of languages in each document, given the lemma before, -1 for none."""
        p = base * np.exp(self.bigram[before])
        n = self.vocabulary.recipe.languages
        own = np.eye(n)[states.language]
        loans = self.vocabulary.recipe.loans if n > 1 else 0.0
        return p / p.sum(1, keepdims=True), (1 - loans) * own + loans * (1 - own) / max(1, n - 1)

    def draw(self, states: States, words: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw documents as tokens, ``[documents, words]``."""
        parts = (self._draw(states.rows(slice(i, i + _CHUNK)), words, rng) for i in range(0, len(states), _CHUNK))
        return self.vocabulary.token[tuple(np.concatenate(list(parts)).transpose(2, 0, 1))]

    def draw_parallel(self, states: States, words: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw sentences without loans in every language, ``[languages, sentences, words]``."""
        lemma = self._draw(states, words, rng)[..., 1]
        return self.vocabulary.token[:, lemma]

    def _draw(self, states: States, words: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the language and the lemma of every word, ``[documents, words, 2]``."""
        base, before, out = self.lemmas(states), np.full(len(states), -1), []
        for _ in range(words):
            lemma, language = (_chosen(p, rng) for p in self.predict(states, base, before))
            out.append(np.stack([language, lemma], axis=-1))
            before = lemma
        return np.stack(out, axis=1)

    def token_probabilities(self, states: States, before: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability of every token in each document, given the token before it, ``[documents, tokens]``.

        Args:
            states: The states of the documents.
            before: The token before, such as BOS.
        """
        words = self.vocabulary
        lemmas, languages = self.predict(states, self.lemmas(states), words.lemma[before])
        p = lemmas[:, words.lemma] * np.where(words.language >= 0, languages[:, words.language], 1.0)
        return np.where(words.lemma >= 0, p, 0.0)


def _chosen(p: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a number for each row of probabilities, drawn by them."""
    ends = p.cumsum(1)
    chosen: NDArray[np.int64] = (rng.random((len(p), 1)) * ends[:, -1:] >= ends).sum(1)
    return np.minimum(chosen, p.shape[1] - 1)
