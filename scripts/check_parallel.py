"""Check the parallel sentences of the package: their counts, repetitions, lengths, scripts and identified languages.

It prints one line per finding and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from saebench.data.parallel import BUILTIN, Parallel, load_parallel
from saebench.errors import DataError, SaebenchError
from saebench.scorers.language import language_identifier

SIZES = {"train": 64, "validation": 24, "test": 40}
TOPICS = 16
ENGLISH_WORDS = (8, 18)
SIMILAR = 0.3  # the Jaccard similarity of two sentences' character trigrams (bigrams in Chinese)
LENGTH_RATIO = 1.7  # characters per English character, relative to the language's median
SCRIPTS = {"ru": "CYRILLIC", "zh": "CJK"}  # all other languages are written in Latin script
BYTES = 250_000

Rows = Sequence[dict[str, str]]  # each row has an id, a split, a topic, and a sentence in every language


def counts(rows: Rows) -> Iterator[str]:
    """Yield splits of the wrong size, topics that are spread unevenly, and ids that are repeated or wrong."""
    for split, size in SIZES.items():
        topics = Counter(row["topic"] for row in rows if row["split"] == split)
        if topics.total() != size:
            yield f"{split}: {topics.total()} rows instead of {size}"
        if len(topics) != TOPICS or max(topics.values()) - min(topics.values()) > 1:
            yield f"{split}: topics are not even: {dict(topics)}"
    for name, n in Counter(row["id"] for row in rows).items():
        if n > 1:
            yield f"{name}: {n} rows have this id"
    for row in rows:
        if not row["id"].startswith(f"{row['split']}-{row['topic']}-"):
            yield f"{row['id']}: the id does not name the split {row['split']!r} and the topic {row['topic']!r}"


def similar(rows: Rows, languages: Sequence[str]) -> Iterator[str]:
    """Yield pairs of sentences of one language that have too much in common."""
    for language in languages:
        grams = [_grams(row[language], 2 if language == "zh" else 3) for row in rows]
        for (one, a), (other, b) in itertools.combinations(zip(rows, grams, strict=True), 2):
            shared = len(a & b)
            similarity = shared / (len(a) + len(b) - shared)
            if similarity > SIMILAR:
                yield f"{language}: {one['id']} and {other['id']} are {similarity:.2f} alike"


def _grams(sentence: str, n: int) -> set[str]:
    letters = "".join(character for character in sentence.casefold() if character.isalnum())
    return {letters[start : start + n] for start in range(max(1, len(letters) - n + 1))}


def uneven(rows: Rows, languages: Sequence[str]) -> Iterator[str]:
    """Yield translations that are unusually long or short relative to their English sentence."""
    for language in languages:
        ratios = [len(row[language]) / len(row["en"]) for row in rows]
        usual = statistics.median(ratios)
        for row, ratio in zip(rows, ratios, strict=True):
            if not 1 / LENGTH_RATIO < ratio / usual < LENGTH_RATIO:
                yield f"{language}: {row['id']}: {ratio / usual:.2f} times as long as usual"


def form(rows: Rows, languages: Sequence[str]) -> Iterator[str]:
    """Yield problems of script, white space and punctuation, and English sentences of the wrong length."""
    for row in rows:
        words = len(row["en"].split())
        if not ENGLISH_WORDS[0] <= words <= ENGLISH_WORDS[1]:
            yield f"{row['id']}: {words} English words"
        for language in languages:
            sentence, where = row[language], f"{language}: {row['id']}"
            script = SCRIPTS.get(language, "LATIN")
            foreign = {letter for letter in sentence if letter.isalpha() and not _in_script(letter, script)}
            if foreign:
                yield f"{where}: letters that are not {script}: {''.join(sorted(foreign))}"
            if sentence != " ".join(sentence.split()) or unicodedata.normalize("NFC", sentence) != sentence:
                yield f"{where}: white space that is doubled or not a plain space, or characters that are not composed"
            plain = unicodedata.normalize("NFKC", sentence)  # turns the wide question mark of Chinese into a plain one
            if not plain.rstrip(" »”“").endswith((".", "?", "!", "。")) or '"' in plain:
                yield f"{where}: no full stop at the end, or straight quotation marks"
            if ("?" in plain) != ("?" in row["en"]):
                yield f"{where}: a question in only one of the two languages"


def _in_script(letter: str, script: str) -> bool:
    return unicodedata.name(letter).startswith(script)


def misidentified(parallel: Parallel) -> Iterator[str]:
    """Yield sentences that py3langid, choosing among the set's languages, takes for another language."""
    identify = language_identifier("py3langid", parallel.languages)
    for split, language in itertools.product(parallel.splits, parallel.languages):
        sentences = parallel.sentences(split, language)
        for sentence, identified in zip(sentences, identify(sentences), strict=True):
            if identified != language:
                yield f"{language}: taken for {identified}: {sentence}"


def findings(path: Path) -> list[str]:
    """Return everything that is wrong with the set in ``path``. Raises SaebenchError for a file that is not a set."""
    parallel = load_parallel(f"jsonl:{path}")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not all(row.keys() >= {"id", "topic", "en"} for row in rows):
        raise DataError(f"{path}: every row needs an 'id', a 'topic' and an English sentence to be checked.")
    size = [f"{path.name} has {path.stat().st_size:,} bytes"] if path.stat().st_size > BYTES else []
    checks = [check(rows, parallel.languages) for check in (similar, uneven, form)]
    return [*size, *counts(rows), *itertools.chain(*checks), *misidentified(parallel)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("path", type=Path, nargs="?", default=BUILTIN["everyday"], help="a JSON Lines file")
    path = parser.parse_args(arguments).path
    try:
        lines = findings(path)
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    print(f"{path.name}: {len(lines)} findings")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
