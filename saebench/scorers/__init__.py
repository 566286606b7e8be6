"""Scorers of texts and answers: toxicity, language, overlap with a reference, fluency, and collapse."""

from saebench.scorers.collapse import Answers, answer_entropy, collapsed, degenerate
from saebench.scorers.fluency import Fluency
from saebench.scorers.language import LanguageIdentifier, language_identifier
from saebench.scorers.overlap import bleu, bleu_from, bleu_statistics, bleu_tokenizer, chrf, chrf_from, chrf_statistics
from saebench.scorers.text import distinct, ngrams, repeated, repetition
from saebench.scorers.toxicity import ToxicityScorer, toxicity_scorer

__all__ = [
    "Answers",
    "Fluency",
    "LanguageIdentifier",
    "ToxicityScorer",
    "answer_entropy",
    "bleu",
    "bleu_from",
    "bleu_statistics",
    "bleu_tokenizer",
    "chrf",
    "chrf_from",
    "chrf_statistics",
    "collapsed",
    "degenerate",
    "distinct",
    "language_identifier",
    "ngrams",
    "repeated",
    "repetition",
    "toxicity_scorer",
]
