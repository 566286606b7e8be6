"""The directions of the features: more of them than dimensions, pushed apart, with what attention needs to read words.

Attention adds up what words tell of. To be read from its embedding by one matrix, each word has a small part along a
direction of its own for every concept that it tells of. These parts make up ``_EVIDENCE`` of the square of its length
for each concept, and the rest is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saebench.errors import UsageError
from saebench.stats.rng import generator
from saebench.synthetic.planted.words import Vocabulary

_EVIDENCE = 0.07  # of the square of the length of a word's direction, for each concept that it tells of
_STEPS = 60  # of pushing directions apart
_GRID = 2.0**-20  # directions are multiples of it, so that rounding on another machine gives the same numbers
BIAS = 2.0  # the length of the constant part of every activation

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Directions:
    """Unit vectors for words and concepts, and the matrix that reads what words tell of.

    Attributes:
        words: The directions of the tokens, ``[tokens, d]``.
        concepts: The directions of the concepts, ``[concepts, d]``.
        readers: Vectors whose products with a token's direction are the token's evidence, ``[concepts, d]``.
        bias: The constant part of every activation, orthogonal to all of them, ``[d]``.
    """

    words: Array
    concepts: Array
    readers: Array
    bias: Array


def directions(vocabulary: Vocabulary, d: int, seed: int) -> Directions:
    """Draw the directions of a model of width ``d``. Raises UsageError if ``d`` has no room for the concepts."""
    evidence = vocabulary.evidence
    n_words, n_concepts = evidence.shape
    if d < 2 * n_concepts:
        raise UsageError(f"{n_concepts} concepts need a width of at least {2 * n_concepts}, not {d}.")
    rng = generator(seed, "planted:directions")
    basis = np.linalg.qr(rng.standard_normal((d, n_concepts + 1)))[0].T
    bias, readers = basis[0], basis[1:]
    told = np.sqrt(_EVIDENCE) * evidence
    free = np.sqrt(1 - told.sum(1, keepdims=True) * np.sqrt(_EVIDENCE))  # the length of the rest of each word

    def fitting(words: Array, concepts: Array) -> tuple[Array, Array]:
        """Return the nearest directions that fulfil the conditions."""
        rest = words - (words @ basis.T) @ basis
        words = free * rest / np.linalg.norm(rest, axis=1, keepdims=True) + told @ readers
        concepts = concepts - np.outer(concepts @ bias, bias)
        return words, concepts / np.linalg.norm(concepts, axis=1, keepdims=True)

    words, concepts = fitting(rng.standard_normal((n_words, d)), rng.standard_normal((n_concepts, d)))
    for _ in range(_STEPS):
        together = np.concatenate([words, concepts])
        rate = 0.5 / np.linalg.norm(together, 2) ** 2
        cosines = together @ together.T
        np.fill_diagonal(cosines, 0)
        together = together - rate * cosines @ together
        words, concepts = fitting(together[:n_words], together[n_words:])
    words, concepts, readers = (on_grid(part) for part in (words, concepts, readers / np.sqrt(_EVIDENCE)))
    return Directions(words, concepts, readers, on_grid(BIAS * bias))


def on_grid(values: Array, grid: float = _GRID) -> Array:
    """Return values rounded to multiples of ``grid``, a power of 2."""
    return np.round(values / grid) * grid
