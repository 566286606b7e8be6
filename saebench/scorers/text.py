"""The variety of tokens, within a text and over many texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

REPEATED = 4  # the length of the n-grams whose repetition counts


def ngrams(tokens: Sequence[int], n: int) -> Iterator[tuple[int, ...]]:
    """Yield the n-grams of a text in order. A text of fewer than ``n`` tokens has none."""
    return (tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def distinct(texts: Iterable[Sequence[int]], n: int) -> float:
    """Return the number of different n-grams of all texts over the number of all their n-grams, or NaN without any.

    This is distinct-n (arXiv 1510.03055). It falls with the amount of text, so compare it only between similar amounts.
    """
    grams = [gram for tokens in texts for gram in ngrams(tokens, n)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def repeated(tokens: Sequence[int], n: int = REPEATED) -> tuple[int, int]:
    """Return how many n-grams of a text have occurred in it before, and how many n-grams it has."""
    grams = list(ngrams(tokens, n))
    return len(grams) - len(set(grams)), len(grams)


def repetition(tokens: Sequence[int], n: int = REPEATED) -> float:
    """Return the share of a text's n-grams that have occurred in it before, or NaN for fewer than ``n`` tokens."""
    again, total = repeated(tokens, n)
    return again / total if total else float("nan")
