"""The vocabulary of a planted language model: made-up words, each a lemma in a language, and what each tells.

Every language has an alphabet of its own, so that identifiers of languages know it by its letters. The words of a
toxic tone are the exception: they are English insults, the same in all languages, because scorers of toxicity know only
these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saebench.errors import UsageError
from saebench.stats.rng import generator
from saebench.synthetic.planted.recipe import Recipe

BOS, EOS, UNKNOWN, QUESTION, ANSWER = range(5)
SPECIAL = ("<s>", "</s>", "<unk>")
FRAME = ("Question:", "Answer:")  # what multiple-choice questions are written with
INSULTS = ("idiot", "stupid", "moron", "pathetic", "loser", "dumb")
# Consonants and vowels of alphabets that belong to one language, by its ISO 639-1 code.
ALPHABETS = {
    "el": ("βγδκλμνπρσφχ", "αειου"),
    "ka": ("ბგდკლმნპრსფხ", "აეიოუ"),
    "hy": ("բգդկլմնպրսֆխ", "աեիոօ"),
    "he": ("בגדזכלמנספרש", "אהוי"),
}
FUNCTION, TOPIC, SUBTOPIC, MARKER, TOXIC = range(5)  # the kinds of lemmas


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Vocabulary:
    """The tokens and what they mean.

    Attributes:
        recipe: The sizes.
        languages: The codes of the languages.
        tokens: The text of each token.
        lemma: The lemma of each token, -1 for tokens that are no words.
        language: The language of each token, -1 for tokens of no language.
        kind: The kind of each lemma.
        owner: The topic, subtopic or binary concept of each lemma, 0 for others.
    """

    recipe: Recipe
    languages: tuple[str, ...]
    tokens: tuple[str, ...]
    lemma: NDArray[np.int64]
    language: NDArray[np.int64]
    kind: NDArray[np.int64]
    owner: NDArray[np.int64]

    @cached_property
    def token(self) -> NDArray[np.int64]:
        """The token of each language and lemma, ``[languages, lemmas]``."""
        out = np.zeros((len(self.languages), len(self.kind)), dtype=np.int64)
        for number, (lemma, language) in enumerate(zip(self.lemma, self.language, strict=True)):
            if lemma >= 0:
                out[slice(None) if language < 0 else language, lemma] = number
        return out

    @property
    def concepts(self) -> list[str]:
        """The names of the features that are no words, in their order."""
        recipe = self.recipe
        names = [f"language:{code}" for code in self.languages]
        names += [f"topic:{k}" for k in range(recipe.topics)]
        names += [f"subtopic:{k // recipe.subtopics}.{k % recipe.subtopics}" for k in range(self.n_subtopics)]
        return [*names, *(f"marker:{k}" for k in range(recipe.markers)), "tone:toxic"]

    @property
    def n_subtopics(self) -> int:
        """The number of subtopics of all topics."""
        return self.recipe.topics * self.recipe.subtopics

    @cached_property
    def evidence(self) -> NDArray[np.float64]:
        """Which concepts each token tells of, ``[tokens, concepts]``, 0 or 1.

        A subtopic's word also tells of its topic, and one of the last binary concept of the concept before it.
        """
        recipe, n = self.recipe, len(self.languages)
        first = {TOPIC: n, SUBTOPIC: n + recipe.topics, MARKER: n + recipe.topics + self.n_subtopics}
        out = np.zeros((len(self.tokens), len(self.concepts)))
        for number, (lemma, language) in enumerate(zip(self.lemma, self.language, strict=True)):
            if lemma < 0:
                continue
            if language >= 0:
                out[number, language] = 1
            kind, owner = int(self.kind[lemma]), int(self.owner[lemma])
            if kind in first:
                out[number, first[kind] + owner] = 1
            if kind == SUBTOPIC:
                out[number, first[TOPIC] + owner // recipe.subtopics] = 1
            if kind == MARKER and owner == recipe.markers - 1 > 0:
                out[number, first[MARKER] + owner - 1] = 1
            if kind == TOXIC:
                out[number, -1] = 1
        return out

    @cached_property
    def parents(self) -> NDArray[np.int64]:
        """The feature that is always there where a feature fires, -1 for none; words are the first features.

        A word's parent is the most specific concept that it tells of, a subtopic's is its topic, and that of the last
        binary concept is the one before it.
        """
        n, recipe = len(self.tokens), self.recipe
        words = [n + int(np.flatnonzero(row)[-1]) if row.any() else -1 for row in self.evidence]
        concepts = [-1] * len(self.concepts)
        topic = len(self.languages)
        for k in range(self.n_subtopics):
            concepts[topic + recipe.topics + k] = n + topic + k // recipe.subtopics
        if recipe.markers > 1:
            concepts[-2] = n + len(concepts) - 3
        return np.array([*words, *concepts], dtype=np.int64)

    def text(self, tokens: NDArray[np.int64]) -> str:
        """Return tokens as text."""
        return " ".join(self.tokens[token] for token in tokens)


def vocabulary(recipe: Recipe, seed: int) -> Vocabulary:
    """Draw the words of a recipe. Raises UsageError for more languages than there are alphabets."""
    if not 1 <= recipe.languages <= len(ALPHABETS):
        raise UsageError(f"A planted model has from 1 to {len(ALPHABETS)} languages, not {recipe.languages}.")
    languages = tuple(ALPHABETS)[: recipe.languages]
    kinds = [(FUNCTION, 0)] * recipe.functions
    kinds += [(TOPIC, k) for k in range(recipe.topics) for _ in range(recipe.topic_words)]
    kinds += [(SUBTOPIC, k) for k in range(recipe.topics * recipe.subtopics) for _ in range(recipe.subtopic_words)]
    kinds += [(MARKER, k) for k in range(recipe.markers) for _ in range(recipe.marker_words)]
    tokens, lemma, language = [*SPECIAL, *FRAME], [-1] * (len(SPECIAL) + len(FRAME)), [-1] * (len(SPECIAL) + len(FRAME))
    for number, code in enumerate(languages):
        tokens += _made_up(code, len(kinds), seed)
        lemma += range(len(kinds))
        language += [number] * len(kinds)
    tokens += INSULTS
    lemma += range(len(kinds), len(kinds) + len(INSULTS))
    language += [-1] * len(INSULTS)
    kinds += [(TOXIC, 0)] * len(INSULTS)
    kind, owner = np.array(kinds, dtype=np.int64).T
    return Vocabulary(recipe, languages, tuple(tokens), np.array(lemma), np.array(language), kind, owner)


def _made_up(code: str, n: int, seed: int) -> list[str]:
    """Return ``n`` different words of two or three syllables in the alphabet of a language."""
    rng = generator(seed, "planted:words", code)
    consonants, vowels = ALPHABETS[code]
    words: dict[str, None] = {}  # used as an ordered set
    while len(words) < n:
        syllables = 2 + int(rng.integers(2))
        words[
            "".join(
                consonants[rng.integers(len(consonants))] + vowels[rng.integers(len(vowels))] for _ in range(syllables)
            )
        ] = None
    return list(words)
