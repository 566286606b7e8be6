"""The parallel sentences of a run, which of them are used for what, and random texts beside them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saebench.data.parallel import Parallel, load_parallel
from saebench.errors import DataError, UsageError, did_you_mean
from saebench.passes.context import TaskContext
from saebench.stats.rng import NO_CONTENT
from saebench.tasks.language_steering.settings import LanguageSteeringSettings

# With two languages beside the source, what belongs to one differs from what belongs to every language but the source.
_LEAST_LANGUAGES = 3


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Sentences:
    """The rows of a parallel set in an order that the seed draws; a row is one sentence in all languages.

    A *place* is a position in that order.
    """

    parallel: Parallel
    languages: tuple[str, ...]  # the source is one of them
    source: str
    order: Mapping[str, NDArray[np.int64]]  # by split, the number of the row at each place

    @property
    def targets(self) -> tuple[str, ...]:
        """All languages but the source."""
        return tuple(language for language in self.languages if language != self.source)

    @cached_property
    def same_script(self) -> tuple[str, ...]:
        """The languages that are written in the source's script, including the source."""
        scripts = {language: script(self.parallel.sentences("train", language)) for language in self.languages}
        return tuple(language for language in self.languages if scripts[language] == scripts[self.source])

    def first(self, split: str, n: int) -> dict[str, list[str]]:
        """Return the sentences at the first ``n`` places of a split, by language; fewer if the split has fewer."""
        places = np.arange(min(n, len(self.order[split])))
        return {language: self.at(split, language, places) for language in self.languages}

    def at(self, split: str, language: str, places: NDArray[np.int64]) -> list[str]:
        """Return the sentences at ``places`` of a split in one language."""
        sentences = self.parallel.sentences(split, language)
        return [sentences[row] for row in self.order[split][places]]

    def places(self, split: str, n: int) -> dict[str, NDArray[np.int64]]:
        """Return ``n`` places of a split for each target; all places if the split has fewer.

        Targets share places only when the split is too small to give each its own, because different sentences tell
        more than the same few do, at the same cost.
        """
        size = len(self.order[split])
        n = min(n, size)
        return {target: (number * n + np.arange(n)) % size for number, target in enumerate(self.targets)}

    def shots(self, n: int) -> list[dict[str, str]]:
        """Return the ``n`` rows of the training split whose source sentences are shortest, ``{language: sentence}``."""
        rows = sorted(self.parallel.splits["train"], key=lambda row: len(row[self.source]))
        return [{language: row[language] for language in self.languages} for row in rows[:n]]


@dataclass(frozen=True)
class TrainingTexts:
    """The sentences of every language, and texts in no language."""

    by_language: Mapping[str, list[str]]
    random: list[str]


def parallel_sentences(context: TaskContext, settings: LanguageSteeringSettings) -> Sentences:
    """Load the parallel set and draw the order of its rows, once per context.

    Languages come in the order of the set, so the order in which the user lists them decides no number.

    Raises:
        UsageError: The set lacks a language, or the source is not among the languages.
        DataError: The set cannot be read, or there are too few languages.
    """
    return context.shared(("language_steering", "sentences", settings), lambda: _load(context, settings))


def training_texts(context: TaskContext, settings: LanguageSteeringSettings) -> TrainingTexts:
    """Return the training sentences and the random texts beside them, made once per context.

    Raises what `parallel_sentences` and `token_ids` raise.
    """
    return context.shared(("language_steering", "training texts", settings), lambda: _training_texts(context, settings))


def token_ids(context: TaskContext, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each text after a BOS token, or an EOS token where the tokenizer has no BOS.

    Raises DataError for a tokenizer that has neither.
    """
    tokenizer = context.lm.tokenizer
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise DataError(
            f"The tokenizer of {context.lm.name} has neither a BOS nor an EOS token to begin a sentence with."
        )
    return [[first, *ids] for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]


def random_texts(context: TaskContext, texts: Sequence[str], n: int) -> list[str]:
    """Draw ``n`` texts whose tokens are uniform over the vocabulary, each as long as a text drawn from ``texts``.

    Special tokens are left out, and so are tokens whose text the tokenizer does not read back as that token, such as
    parts of characters. The tokenizer may still join neighbouring tokens of a random text, as it does in any text.
    """
    rng = context.rng("language_steering:random tokens", NO_CONTENT)
    tokenizer = context.lm.tokenizer
    vocabulary = np.setdiff1d(np.arange(min(len(tokenizer), context.lm.head.vocab_size)), tokenizer.all_special_ids)
    lengths = rng.choice([len(tokens) - 1 for tokens in token_ids(context, texts)], size=n)
    drawn: list[int] = []
    while len(drawn) < lengths.sum():
        batch = rng.choice(vocabulary, size=lengths.sum()).tolist()
        alone = tokenizer.batch_decode([[token] for token in batch])
        reread = tokenizer(alone, add_special_tokens=False)["input_ids"]
        # A tokenizer that reads none of them back leaves no choice but to keep them all.
        drawn += [token for token, ids in zip(batch, reread, strict=True) if ids == [token]] or batch
    ends = np.cumsum(lengths)
    random: list[str] = tokenizer.batch_decode(
        [drawn[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    )
    return random


def script(texts: Sequence[str]) -> str:
    """Return the script of most letters as Unicode names it, such as LATIN, CYRILLIC or CJK; "" without letters."""
    letters = Counter(unicodedata.name(c, "?").split()[0] for text in texts for c in text if c.isalpha())
    return letters.most_common(1)[0][0] if letters else ""


def _load(context: TaskContext, settings: LanguageSteeringSettings) -> Sentences:
    ref, source = settings.parallel, settings.source
    parallel = load_parallel(ref)
    for language in (*settings.languages, source):
        if language not in parallel.languages:
            raise UsageError(
                f"{ref!r} has no sentences in {language!r}; it has {', '.join(parallel.languages)}."
                f"{did_you_mean(language, parallel.languages)}"
            )
    wanted = settings.languages or parallel.languages
    languages = tuple(language for language in parallel.languages if language in wanted)
    if source not in languages:
        raise UsageError(f"The source language {source!r} is not among languages={', '.join(languages)}; add it.")
    if len(languages) < _LEAST_LANGUAGES:
        raise DataError(
            f"{ref!r} gives {len(languages)} languages, but language_steering needs at least {_LEAST_LANGUAGES}, "
            "one of them the source; add a language."
        )
    order = {
        split: context.rng(f"language_steering:{split}", NO_CONTENT).permutation(len(rows))
        for split, rows in parallel.splits.items()
    }
    return Sentences(parallel, languages, source, order)


def _training_texts(context: TaskContext, settings: LanguageSteeringSettings) -> TrainingTexts:
    by_language = parallel_sentences(context, settings).first("train", settings.train_sentences)
    every = [text for texts in by_language.values() for text in texts]
    return TrainingTexts(by_language, random_texts(context, every, settings.random_sequences))
