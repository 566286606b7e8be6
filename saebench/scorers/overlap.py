"""BLEU and chrF as sacrebleu computes them, and the counts of each text, which the bootstrap sums.

Both scores are functions of sums over texts and not means of the texts' scores:
``bleu_from(bleu_statistics(h, r).sum(0)) == bleu(h, r)``. They are from 0 to 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saebench.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU, CHRF

ORDER = 4  # the longest n-grams of BLEU
# sacrebleu's other tokenizers download a model or need another package.
TOKENIZERS = ("13a", "intl", "zh", "char", "none")
_UNSPACED = ("ja", "th", "lo", "km", "my")


def bleu_tokenizer(language: str) -> str:
    """Return the tokenizer that suits a language (ISO 639-1).

    It is ``zh`` for Chinese, ``char`` for other languages without spaces between words, and otherwise ``13a``.
    """
    return "zh" if language == "zh" else "char" if language in _UNSPACED else "13a"


def bleu(hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = "13a") -> float:
    """Return the corpus BLEU, with exponential smoothing and mixed case, from 0 to 100.

    Args:
        hypotheses: The texts.
        references: One reference for each text.
        tokenize: The tokenizer.

    Raises:
        UsageError: The tokenizer is unknown or needs the network.
        DataError: There are no texts, or there is not one reference for each.
    """
    return bleu_from(bleu_statistics(hypotheses, references, tokenize).sum(0))


def bleu_statistics(hypotheses: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> NDArray[np.int64]:
    """Return the counts of each text that BLEU is computed from, ``[texts, 10]``.

    They are the length of the text, the length of its reference, its 1- to 4-grams that match, and all its 1- to
    4-grams.

    Raises:
        UsageError: As in `bleu`.
        DataError: As in `bleu`.
    """
    _check(hypotheses, references)
    metric = _bleu(tokenize)
    scores = [metric.sentence_score(h, [r]) for h, r in zip(hypotheses, references, strict=True)]
    return np.array([[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores], dtype=np.int64)


def bleu_from(statistics: NDArray[np.int64] | NDArray[np.float64], *, effective_order: bool = False) -> float:
    """Return the BLEU of summed counts ``[10]``. ``effective_order`` is for single texts, which may have no 4-gram."""
    from sacrebleu.metrics import BLEU

    length, reference, *counts = statistics.tolist()
    return float(
        BLEU.compute_bleu(
            correct=counts[:ORDER],
            total=counts[ORDER:],
            sys_len=length,
            ref_len=reference,
            smooth_method="exp",
            effective_order=effective_order,
        ).score
    )


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return the corpus chrF2, with characters up to 6-grams and no word n-grams, from 0 to 100.

    Raises:
        DataError: There are no texts, or there is not one reference for each.
    """
    return chrf_from(chrf_statistics(hypotheses, references).sum(0))


def chrf_statistics(hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """Return the counts of each text that chrF is computed from, ``[texts, 18]``.

    For 1- to 6-grams of characters each, they are the number in the text, in its reference, and of those that match.

    Raises:
        DataError: There are no texts, or there is not one reference for each.
    """
    _check(hypotheses, references)
    # No public function of sacrebleu returns these counts, so the methods of its own significance tests are used.
    return np.array(_chrf()._extract_corpus_statistics(hypotheses, [references]), dtype=np.int64)


def chrf_from(statistics: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """Return the chrF of summed counts ``[18]``."""
    return float(_chrf()._compute_score_from_stats(statistics.tolist()).score)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise DataError(f"{len(hypotheses)} texts need as many references, not {len(references)}.")
    if not len(hypotheses):
        raise DataError("There are no texts to compare with references; score at least one.")


@cache
def _bleu(tokenize: str) -> BLEU:
    from sacrebleu.metrics import BLEU

    if tokenize not in TOKENIZERS:
        raise UsageError(
            f"BLEU has no tokenizer {tokenize!r} that works offline. The known ones are {', '.join(TOKENIZERS)}."
            f"{did_you_mean(tokenize, TOKENIZERS)}"
        )
    return BLEU(tokenize=tokenize, effective_order=True)  # the counts do not depend on the order


@cache
def _chrf() -> CHRF:
    from sacrebleu.metrics import CHRF

    return CHRF()
