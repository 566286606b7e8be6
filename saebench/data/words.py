"""Words as concepts: each document of a text is cut right after a word, and that word is its class."""

from __future__ import annotations

import re
from collections import Counter

from saebench.data.labelled_ref import WordLabels
from saebench.data.text import load_documents
from saebench.errors import DataError

CLASSES = 6  # the number of words that are chosen
# A whole word inside a sentence. A semicolon must not follow it, because that is often a broken HTML entity ("quot;").
_WORD = re.compile(r"(?<=\s)[^\W\d_]+(?=[\s,.]|$)")
_SHORTEST = 3  # the fewest letters of a word that is chosen


def word_rows(ref: WordLabels) -> tuple[list[tuple[str, str]], int]:
    """Return a prompt and its word for each document that holds one of the words.

    The prompt ends with the last occurrence of the word in the document, so that its last token belongs to the word. A
    document that holds several of the words is used for the rarest. If ``ref`` names no words, the most frequent
    content words are chosen: those in lower case, of three letters or more, that are not English stop words. A word
    counts once per document.

    Returns:
        The prompts with their words, and the number of documents that are left out because the zoo was trained on them.

    Raises:
        DataError: No document holds one of the words, or the text cannot be read.
        AssetError: The asset is missing.
    """
    documents = load_documents(ref.text)
    # For each document, the place where the last occurrence of each of its words ends.
    ends = [{match[0]: match.end() for match in _WORD.finditer(text)} for text in documents.texts]
    frequency = Counter(word for ends_of_words in ends for word in ends_of_words)
    words = ref.words or _frequent(frequency)
    if missing := [word for word in words if not frequency[word]]:
        raise DataError(
            f"The text {ref.text!r} does not hold the word {missing[0]!r} inside a sentence; name another one."
        )
    by_rarity = sorted(words, key=lambda word: (frequency[word], word))
    rows = []
    for text, ends_of_words in zip(documents.texts, ends, strict=True):
        if word := next((word for word in by_rarity if word in ends_of_words), None):
            rows.append((text[: ends_of_words[word]], word))
    return rows, documents.n_zoo


def _frequent(frequency: Counter[str]) -> list[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    content = (
        (-n, word)
        for word, n in frequency.items()
        if word.islower() and len(word) >= _SHORTEST and word not in ENGLISH_STOP_WORDS
    )
    return [word for _, word in sorted(content)[:CLASSES]]
