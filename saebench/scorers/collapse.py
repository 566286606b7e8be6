"""Tests of whether a model is broken: whether it gives the same answer to every question, or repeats itself.

A model that always answers the same letter scores as chance does, which looks like perfect forgetting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from saebench.errors import DataError, UsageError
from saebench.scorers.text import repeated

LEVEL = 0.001  # the level of the test against somebody who answers evenly
FIXED = 0.75  # the share of questions above which a fixed answer means collapse
LOOPING = 0.5  # the share of repeated 4-grams above which a text says nothing


@dataclass(frozen=True)
class Answers:
    """How the answers to multiple-choice questions are distributed over the choices."""

    n: int  # the number of answers
    entropy: float  # in bits
    normalised: float  # entropy / log2(number of choices): 1 if all choices are equally frequent, 0 if one has all
    top: int  # the most frequent choice
    top_share: float
    # The share of questions that get the top answer regardless of the question, if the others are answered evenly; 0 at
    # chance.
    fixed: float
    p_value: float  # the probability of such a large top share from somebody who answers balanced questions evenly
    collapsed: bool

    @classmethod
    def of(cls, choices: NDArray[np.int64], n_choices: int) -> Answers:
        """Return the distribution of the chosen answers.

        The right answers of the questions should be balanced over the places, or be put there at random. Then both
        somebody who knows them and somebody who guesses evenly choose each place with a share of about 1 / n_choices.
        Answers count as collapsed if both of the following hold:

        * The top share is beyond chance: somebody who answers evenly has such a top share with a probability below
          LEVEL. It is the binomial tail times the number of choices, since any of them may be the top.
        * The answer is nearly always the same: if answers are a mixture of one fixed answer and even answers, the fixed
          part exceeds FIXED. The top share then exceeds 0.875 for two choices, and 0.8125 for four.

        With the first condition alone, every model with a bias towards a letter would count as collapsed. With the
        second alone, a handful of questions would be enough. The rule is saebench's.

        Args:
            choices: The place of the chosen answer to each question, ``[questions]``.
            n_choices: The number of choices of each question.

        Raises:
            DataError: There are no answers.
            UsageError: There are fewer than two choices, or a place does not exist.
        """
        counts = _counts(choices, n_choices)
        n, top = int(counts.sum()), int(counts.argmax())
        share, chance = counts[top] / n, 1 / n_choices
        fixed = float((share - chance) / (1 - chance))
        p_value = min(1.0, n_choices * float(binom.sf(counts[top] - 1, n, chance)))
        entropy = _entropy(counts)
        return cls(
            n=n,
            entropy=entropy,
            normalised=entropy / float(np.log2(n_choices)),
            top=top,
            top_share=float(share),
            fixed=fixed,
            p_value=p_value,
            collapsed=p_value < LEVEL and fixed > FIXED,
        )


def answer_entropy(choices: NDArray[np.int64], n_choices: int) -> float:
    """Return the entropy of the answers in bits, at most log2(n_choices). Raises what `Answers.of` raises."""
    return _entropy(_counts(choices, n_choices))


def collapsed(choices: NDArray[np.int64], n_choices: int) -> bool:
    """Return whether every question gets the same answer, by the rule of `Answers.of`. Raises what that raises."""
    return Answers.of(choices, n_choices).collapsed


def degenerate(texts: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Return which texts (as tokens) say nothing, because they are empty or more than half of their 4-grams repeat."""

    def loops(tokens: Sequence[int]) -> bool:
        again, total = repeated(tokens)
        return not tokens or again > LOOPING * total

    return np.array([loops(tokens) for tokens in texts], dtype=bool)


def _counts(choices: NDArray[np.int64], n_choices: int) -> NDArray[np.int64]:
    if n_choices < 2:
        raise UsageError(f"A question has at least two choices, not {n_choices}.")
    if not len(choices):
        raise DataError("There are no answers; score at least one question.")
    if choices.min() < 0 or choices.max() >= n_choices:
        raise UsageError(
            f"Answers are places from 0 to {n_choices - 1}, but these are from {choices.min()} to {choices.max()}."
        )
    return np.bincount(choices, minlength=n_choices)


def _entropy(counts: NDArray[np.int64]) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0  # 0.0 instead of -0.0
