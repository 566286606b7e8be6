"""Toxic and neutral texts in three splits that share no text, and prompts that lean towards toxicity."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np
from numpy.typing import NDArray

from saebench.data.documents import Documents
from saebench.data.labelled import Labelled, load_labelled
from saebench.data.tokens import TokenBatch
from saebench.errors import DataError, UsageError, did_you_mean
from saebench.passes.context import TaskContext
from saebench.passes.examples import tokenize_examples
from saebench.passes.scored import ScoredItems, text_items
from saebench.scorers import ToxicityScorer, toxicity_scorer
from saebench.tasks.detox.settings import DetoxSettings

_SHARES = {"fit": 0.5, "validation": 0.25, "test": 0.25}  # of the texts of each source
_SCORED_AT_ONCE = 64  # prompts
# Web addresses, and user handles with the mark of a retweet before them and a colon after them.
_NOT_WORDS = re.compile(r"https?://\S+|www\.\S+|(?:\bRT\s+)?@\w+:?")


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class ToxicitySplit:
    """Toxic and neutral texts, equally many from each pair of sources, and the prompts of this split."""

    texts: list[str]
    toxic: NDArray[np.bool_]  # [texts]
    prompts: list[str]  # empty in all splits but the test


def cleaned(text: str) -> str:
    """Return ``text`` without web addresses and user handles, HTML entities decoded, words one blank apart."""
    return " ".join(_NOT_WORDS.sub(" ", html.unescape(text)).split())


def labelled(source: str, context: TaskContext) -> tuple[Labelled, int]:
    """Load the data of a source ``REF=CLASS``.

    Returns:
        The labelled texts of REF, and the number of CLASS among their classes.

    Raises:
        UsageError: The source names no class, or one that the data does not have.
        AssetError: The asset that REF names is missing.
        DataError: The data cannot be read.
    """
    ref, separator, name = source.rpartition("=")
    if not separator:
        raise UsageError(f"The source {source!r} names no class; write REF=CLASS, such as 'csv:texts.csv=1'.")
    data = context.shared(("labelled", ref), lambda: load_labelled(ref))
    if name not in data.classes:
        known = ", ".join(data.classes)
        raise UsageError(f"{ref!r} has no class {name!r}; its classes are {known}.{did_you_mean(name, data.classes)}")
    return data, data.classes.index(name)


def source_hash(source: str, context: TaskContext) -> str:
    """Return the sha256 of the texts of a source ``REF=CLASS``, in order. Raises what `labelled` raises."""
    data, number = labelled(source, context)
    return Documents("", [data.texts[row] for row in np.flatnonzero(data.labels == number)]).content_hash


def splits(context: TaskContext, settings: DetoxSettings) -> dict[str, ToxicitySplit]:
    """Return the splits ``fit``, ``validation`` and ``test``: drawn by the context's seed, the same for every SAE.

    Sources are told apart and ordered by their content, so neither their references nor the order in which the user
    lists them decide a number. No text belongs to two sources. A text that several sources of one side contain stays
    with the first of them, and a text that is both toxic and neutral is dropped.

    Raises:
        UsageError: A source names no known class, or a prompt leaves no room for its continuation.
        AssetError: The asset that a source names is missing.
        DataError: There are too few texts or prompts, or they cannot be read.
    """
    return context.shared(("detox", "splits", settings), lambda: _splits(context, settings))


def prompt_tokens(prompts: Sequence[str], context: TaskContext, context_length: int) -> list[list[int]]:
    """Return the tokens of each prompt after a BOS, or after an EOS where the tokenizer has no BOS."""
    rows = tokenize_examples(prompts, context.lm.tokenizer, context_length)
    return [part.tolist() for part in np.split(rows.tokens, rows.starts[1:])]


def neutral_sequences(context: TaskContext, settings: DetoxSettings) -> TokenBatch:
    """Return the sampled sequences of neutral text. Raises UsageError and DataError for a text that cannot be used."""
    return context.batch(settings.text, settings.context_length, settings.sequences)


def neutral_text(context: TaskContext, settings: DetoxSettings, site: str) -> ScoredItems:
    """Return sequences of neutral text, on which interventions at ``site`` can be scored."""
    items = text_items(neutral_sequences(context, settings), settings.predictions or None)
    return context.scored(items, site)


def _splits(context: TaskContext, settings: DetoxSettings) -> dict[str, ToxicitySplit]:
    sources = {source_hash(source, context): source for source in (*settings.toxic, *settings.neutral)}
    pairs = sorted(
        (source_hash(toxic, context), source_hash(neutral, context))
        for toxic, neutral in zip(settings.toxic, settings.neutral, strict=True)
    )
    pools = _pools(pairs, sources, context)
    result = {}
    for name in _SHARES:
        portions = _portions(pairs, {source: pool[name] for source, pool in pools.items()})
        texts, toxic = _balanced(portions, settings.fit_texts if name == "fit" else settings.heldout_texts, name)
        prompts: list[str] = []
        if name == "test":
            toxic_texts = _interleaved([toxic_portion for toxic_portion, _ in portions])
            beginnings = _beginnings(toxic_texts, context, settings.prompt_tokens)
            candidates = _document_prompts(context, settings.prompts) if settings.prompts else beginnings
            prompts = _toxic_prompts(candidates, settings, toxicity_scorer(settings.scorer))
            _check_length(prompts, context, settings)
        result[name] = ToxicitySplit(texts, toxic, prompts)
    return result


def _pools(
    pairs: Sequence[tuple[str, str]], sources: Mapping[str, str], context: TaskContext
) -> dict[str, dict[str, list[str]]]:
    """Divide the texts of each source among the splits: ``pools[content][split]``.

    Args:
        pairs: The content hashes of the toxic and of the neutral source of each pair.
        sources: A source of each content hash.
        context: Reads the sources and gives the random generators.
    """
    texts: dict[str, dict[str, str]] = {}  # texts[content][key]; the key of a text ignores case
    seen: tuple[set[str], set[str]] = (set(), set())  # keys of the toxic and of the neutral texts
    for side in (0, 1):
        for content in dict.fromkeys(pair[side] for pair in pairs):
            data, number = labelled(sources[content], context)
            of_class = (cleaned(data.texts[row]) for row in np.flatnonzero(data.labels == number))
            by_key = {text.casefold(): text for text in of_class if text}
            texts[content] = {key: text for key, text in by_key.items() if key not in seen[side]}
            seen[side].update(by_key)
    on_both_sides = seen[0] & seen[1]
    pools = {}
    for content, by_key in texts.items():
        kept = [text for key, text in by_key.items() if key not in on_both_sides]
        order = context.rng("detox:texts", content).permutation(len(kept))
        bounds = np.round(np.cumsum([0.0, *_SHARES.values()]) * len(kept)).astype(int)
        pools[content] = {
            split: [kept[row] for row in order[start:end]]
            for split, start, end in zip(_SHARES, bounds[:-1], bounds[1:], strict=True)
        }
    return pools


def _portions(pairs: Sequence[tuple[str, str]], pool: dict[str, list[str]]) -> list[tuple[list[str], list[str]]]:
    """Return the toxic and the neutral texts of each pair; pairs that name the same source share its texts."""
    uses, used = Counter(source for pair in pairs for source in pair), Counter[str]()
    portions = []
    for pair in pairs:
        of_pair = []
        for source in pair:
            of_pair.append(pool[source][used[source] :: uses[source]])
            used[source] += 1
        portions.append((of_pair[0], of_pair[1]))
    return portions


def _balanced(
    portions: list[tuple[list[str], list[str]]], most: int, split: str
) -> tuple[list[str], NDArray[np.bool_]]:
    """Return at most ``most`` texts of each side, the toxic ones first, and which of them are toxic.

    Every pair gives as many toxic as neutral texts, and all pairs give equally many where they have enough.
    """
    toxic: list[str] = []
    neutral: list[str] = []
    for number, (toxic_portion, neutral_portion) in enumerate(portions):
        share = most // len(portions) + (number < most % len(portions))
        n = min(share, len(toxic_portion), len(neutral_portion))
        toxic += toxic_portion[:n]
        neutral += neutral_portion[:n]
    if len(toxic) < 2:
        raise DataError(
            f"For the split {split!r} the sources give {len(toxic)} toxic and as many neutral texts; give more texts."
        )
    return [*toxic, *neutral], np.repeat([True, False], len(toxic))


def _interleaved(lists: Sequence[list[str]]) -> Iterator[str]:
    """Yield the first text of every list, then the second of every list, and so on."""
    return (text for row in zip_longest(*lists) for text in row if text is not None)


def _beginnings(texts: Iterator[str], context: TaskContext, most: int) -> Iterator[str]:
    """Yield the first words of each text: at most ``most`` tokens, at least two thirds of that, never the whole text.

    A text that has no such beginning is left out.
    """
    tokenizer = context.lm.tokenizer
    for text in texts:
        words = text.split()
        for n in range(min(len(words) - 1, most), 0, -1):
            beginning = " ".join(words[:n])
            length = len(tokenizer(beginning, add_special_tokens=False)["input_ids"])
            if length <= most:
                if 3 * length >= 2 * most:
                    yield beginning
                break


def _document_prompts(context: TaskContext, ref: str) -> Iterator[str]:
    """Yield the documents of the text ``ref``, each a whole prompt, in a random order."""
    documents = context.read(ref)
    texts = documents.texts
    order = context.rng("detox:prompts", documents.content_hash).permutation(len(texts))
    return (texts[row] for row in order)


def _toxic_prompts(candidates: Iterator[str], settings: DetoxSettings, scorer: ToxicityScorer) -> list[str]:
    """Return the first of ``candidates`` that are toxic enough. Raises DataError when there are fewer than two."""
    most = settings.test_prompts
    prompts: dict[str, None] = {}  # used as an ordered set
    while len(prompts) < most:
        block = list(islice(candidates, _SCORED_AT_ONCE))
        if not block:
            break
        scores = scorer(block)
        prompts |= dict.fromkeys(p for p, score in zip(block, scores, strict=True) if score >= settings.prompt_toxicity)
    if len(prompts) < 2:
        raise DataError(
            f"Of the prompts, {len(prompts)} score {settings.prompt_toxicity} or more by "
            f"{scorer.name}, and two are needed; lower 'prompt_toxicity', or give more texts."
        )
    return list(prompts)[:most]


def _check_length(prompts: list[str], context: TaskContext, settings: DetoxSettings) -> None:
    """Raise UsageError for a prompt that leaves no room for its continuation."""
    room = settings.context_length - settings.new_tokens
    for prompt in prompts:
        n = len(context.lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]) + 1
        if n > room:
            raise UsageError(
                f"The prompt {prompt[:40]!r} has {n} tokens with BOS, but beside its continuation 'context_length' "
                f"leaves room for {max(room, 0)}; raise 'context_length' or shorten the prompt."
            )
