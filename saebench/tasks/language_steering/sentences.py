"""The parallel sentences of a run: languages, which rows serve for what, and random sequences beside them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.data.parallel import Parallel, load_parallel
from saebench.errors import DataError, UsageError, did_you_mean
from saebench.passes.context import TaskContext

Parameters = dict[str, Any]

# Two languages beside the source: what belongs to one can then be told from what belongs to all but the source.
_LEAST_LANGUAGES = 3


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Sentences:
    """Rows of a parallel set, in an order drawn by the seed."""

    parallel: Parallel
    languages: tuple[str, ...]  # the source among them
    source: str
    order: Mapping[str, NDArray[np.int64]]  # of the rows of each split

    @property
    def targets(self) -> tuple[str, ...]:
        """All languages but the source."""
        return tuple(language for language in self.languages if language != self.source)

    @property
    def same_script(self) -> tuple[str, ...]:
        """The languages that are written as the source is, the source among them."""
        scripts = {language: script(self.parallel.sentences("train", language)) for language in self.languages}
        return tuple(language for language in self.languages if scripts[language] == scripts[self.source])

    def first(self, split: str, n: int) -> dict[str, list[str]]:
        """The first ``n`` rows of a split in every language, or as many as there are."""
        return {
            language: self.at(split, language, np.arange(n)[: len(self.order[split])]) for language in self.languages
        }

    def at(self, split: str, language: str, places: NDArray[np.int64]) -> list[str]:
        """The sentences at ``places`` of the order of a split."""
        sentences = self.parallel.sentences(split, language)
        return [sentences[row] for row in self.order[split][places]]

    def rows(self, split: str, n: int) -> dict[str, NDArray[np.int64]]:
        """``n`` places (or as many as there are) of a split for each target, of different rows as far as they go.

        The same cost buys more independent sentences that way; when ``n`` is all rows, every target has them all.
        """
        most = len(self.order[split])
        n = min(n, most)
        return {target: (number * n + np.arange(n)) % most for number, target in enumerate(self.targets)}

    def shots(self, n: int) -> list[dict[str, str]]:
        """``n`` rows of the training split: those whose source sentences are shortest."""
        rows = sorted(self.parallel.splits["train"], key=lambda row: len(row[self.source]))
        return [{language: row[language] for language in self.languages} for row in rows[:n]]


def sentences(context: TaskContext, parameters: Parameters) -> Sentences:
    """The parallel set that ``parameters`` name, made once.

    Raises UsageError for a language that it does not have, DataError when there are too few languages.
    """
    ref, source, wanted = parameters["parallel"], parameters["source"], parameters["languages"]
    key = ("language_steering", "sentences", ref, source, tuple(wanted))
    return context.shared(key, lambda: _sentences(context, ref, source, wanted))


def _sentences(context: TaskContext, ref: str, source: str, wanted: Sequence[str]) -> Sentences:
    parallel = load_parallel(ref)
    languages = tuple(dict.fromkeys(wanted)) or parallel.languages
    for language in (*languages, source):
        if language not in parallel.languages:
            raise UsageError(
                f"{ref!r} has no sentences in {language!r}; it has {', '.join(parallel.languages)}."
                f"{did_you_mean(language, parallel.languages)}"
            )
    if source not in languages:
        raise UsageError(f"The source language {source!r} is not among languages={', '.join(languages)}; add it.")
    if len(languages) < _LEAST_LANGUAGES:
        raise DataError(
            f"{ref!r} gives {len(languages)} languages; language_steering needs {_LEAST_LANGUAGES} at least, one of "
            "them the source."
        )
    order = {
        split: context.rng(f"language_steering:{split}").permutation(len(rows))
        for split, rows in parallel.splits.items()
    }
    return Sentences(parallel, languages, source, order)


def script(texts: Sequence[str]) -> str:
    """The script of most letters, as Unicode names it: LATIN, CYRILLIC, CJK, ..."""
    letters = Counter(unicodedata.name(c, "?").split()[0] for text in texts for c in text if c.isalpha())
    return letters.most_common(1)[0][0] if letters else ""


def token_ids(context: TaskContext, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text, BOS (else EOS) first. Raises DataError for a tokenizer without both."""
    tokenizer = context.lm.tokenizer
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise DataError(
            f"The tokenizer of {context.lm.name} has neither a BOS nor an EOS token to begin a sentence with."
        )
    return [[first, *ids] for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]


def random_texts(context: TaskContext, texts: Sequence[str], n: int) -> list[str]:
    """``n`` texts of tokens drawn evenly from the vocabulary, each as long as one of ``texts``.

    Special tokens, and those that alone are no text which reads as themselves (parts of characters, unused ones), are
    not drawn. The texts are read as others are: what the tokenizer would join in a text is joined.
    """
    rng = context.rng("language_steering:random tokens")
    tokenizer = context.lm.tokenizer
    known = np.setdiff1d(np.arange(min(len(tokenizer), context.lm.head.vocab_size)), tokenizer.all_special_ids)
    lengths = rng.choice([len(tokens) - 1 for tokens in token_ids(context, texts)], size=n)
    drawn: list[int] = []
    while len(drawn) < lengths.sum():
        some = rng.choice(known, size=lengths.sum()).tolist()
        back = tokenizer(tokenizer.batch_decode([[token] for token in some]), add_special_tokens=False)["input_ids"]
        drawn += [token for token, ids in zip(some, back, strict=True) if ids == [token]] or some
    ends = np.cumsum(lengths)
    found: list[str] = tokenizer.batch_decode(
        [drawn[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    )
    return found
