"""Toxic and neutral texts in three splits that share none, and prompts that lean towards toxicity."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.data.labelled import Labelled, load_labelled
from saebench.errors import DataError, UsageError, did_you_mean
from saebench.passes.context import TaskContext
from saebench.passes.examples import tokenize_examples
from saebench.scorers.toxicity import ToxicityScorer

Parameters = dict[str, Any]

_SHARES = {"fit": 0.5, "validation": 0.25, "test": 0.25}  # of each source
_SCORED_AT_ONCE = 64  # prompts
# Addresses, and handles with the mark of a retweet before and a colon after.
_NOT_WORDS = re.compile(r"https?://\S+|www\.\S+|(?:\bRT\s+)?@\w+:?")


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Split:
    """Texts to tell toxic from neutral by, as many of each from every pair of sources, and prompts."""

    texts: list[str]
    toxic: NDArray[np.bool_]  # [texts]
    prompts: list[str]  # none to fit on


def cleaned(text: str) -> str:
    """Without addresses, user handles and HTML entities, white space as single blanks; otherwise as written."""
    return " ".join(_NOT_WORDS.sub(" ", html.unescape(text)).split())


def sources(parameters: Parameters) -> list[tuple[str, str]]:
    """Pairs of a toxic and a neutral source, each ``REF=CLASS``. Raises UsageError for lists of unequal length."""
    toxic, neutral = parameters["toxic"], parameters["neutral"]
    if not toxic or len(toxic) != len(neutral):
        raise UsageError(
            f"'toxic' names {len(toxic)} sources and 'neutral' {len(neutral)}; each toxic one needs a neutral one at "
            "the same place of the list."
        )
    return list(zip(toxic, neutral, strict=True))


def labelled(source: str, context: TaskContext) -> tuple[Labelled, int]:
    """The data of ``REF=CLASS`` and the number of its class. Raises UsageError, AssetError, DataError."""
    ref, separator, name = source.rpartition("=")
    if not separator:
        raise UsageError(f"The source {source!r} names no class; write REF=CLASS, such as 'csv:texts.csv=1'.")
    data = context.shared(("labelled", ref), lambda: load_labelled(ref))
    if name not in data.classes:
        known = ", ".join(data.classes)
        raise UsageError(f"{ref!r} has no class {name!r}, but {known}.{did_you_mean(name, data.classes)}")
    return data, data.classes.index(name)


def splits(context: TaskContext, parameters: Parameters, scorer: ToxicityScorer) -> dict[str, Split]:
    """The splits ``fit``, ``validation`` and ``test``: the same for every SAE, drawn by the context's seed.

    A text stands in one source only: what two sources of the same side hold belongs to the first, and what both sides
    hold is dropped. Raises UsageError and DataError for sources and prompts that cannot be used.
    """
    names = (
        *("toxic", "neutral", "fit_texts", "heldout_texts", "prompts", "prompt_tokens", "prompt_toxicity"),
        *("validation_prompts", "test_prompts", "context_length", "new_tokens", "sweep_tokens"),
    )
    key = tuple(str(parameters[name]) for name in names)
    return context.shared(("detox", "splits", scorer.name, *key), lambda: _splits(context, parameters, scorer))


def _splits(context: TaskContext, parameters: Parameters, scorer: ToxicityScorer) -> dict[str, Split]:
    pairs = sources(parameters)
    pools = _pools(pairs, context)
    given = _given_prompts(context, parameters) if parameters["prompts"] else None
    found = {}
    for split in _SHARES:
        sides = _portions(pairs, {source: pool[split] for source, pool in pools.items()})
        most = parameters["fit_texts" if split == "fit" else "heldout_texts"]
        texts, toxic = _balanced(sides, most, split)
        prompts: list[str] = []
        if split != "fit":
            written = _interleaved([side for side, _ in sides])
            candidates = given[split] if given else _prefixes(written, context, parameters["prompt_tokens"])
            prompts = _toxic_leaning(candidates, parameters, scorer, split)
            _check_length(prompts, context, parameters)
        found[split] = Split(texts, toxic, prompts)
    return found


def _pools(pairs: Sequence[tuple[str, str]], context: TaskContext) -> dict[str, dict[str, list[str]]]:
    """Texts of each source by split."""
    texts: dict[str, dict[str, str]] = {}  # by source: key -> text
    keys: tuple[set[str], set[str]] = (set(), set())
    for side in (0, 1):
        for source in dict.fromkeys(pair[side] for pair in pairs):
            data, number = labelled(source, context)
            every = (cleaned(data.texts[row]) for row in np.flatnonzero(data.labels == number))
            mine = {text.casefold(): text for text in every if text}
            texts[source] = {key: text for key, text in mine.items() if key not in keys[side]}
            keys[side].update(mine)
    both = keys[0] & keys[1]
    pools = {}
    for source, found in texts.items():
        kept = [text for key, text in found.items() if key not in both]
        order = context.rng(f"detox:texts:{source}").permutation(len(kept))
        ends = np.round(np.cumsum([0.0, *_SHARES.values()]) * len(kept)).astype(int)
        pools[source] = {
            split: [kept[row] for row in order[start:end]]
            for split, start, end in zip(_SHARES, ends[:-1], ends[1:], strict=True)
        }
    return pools


def _portions(pairs: Sequence[tuple[str, str]], pool: dict[str, list[str]]) -> list[tuple[list[str], list[str]]]:
    """Toxic and neutral texts of each pair; pairs that name the same source share it out."""
    uses, used = Counter(source for pair in pairs for source in pair), Counter[str]()
    sides = []
    for pair in pairs:
        portion = []
        for source in pair:
            portion.append(pool[source][used[source] :: uses[source]])
            used[source] += 1
        sides.append((portion[0], portion[1]))
    return sides


def _balanced(sides: list[tuple[list[str], list[str]]], most: int, split: str) -> tuple[list[str], NDArray[np.bool_]]:
    """At most ``most`` texts of each side, equally many from each pair where there are enough; toxic ones first."""
    toxic: list[str] = []
    neutral: list[str] = []
    for number, (bad, good) in enumerate(sides):
        n = min(most // len(sides) + (number < most % len(sides)), len(bad), len(good))
        toxic += bad[:n]
        neutral += good[:n]
    if len(toxic) < 2:
        raise DataError(f"The sources hold {len(toxic)} toxic and neutral texts for the split {split!r}; give more.")
    return [*toxic, *neutral], np.repeat([True, False], len(toxic))


def _interleaved(lists: Sequence[list[str]]) -> Iterator[str]:
    return (text for row in zip_longest(*lists) for text in row if text is not None)


def _prefixes(texts: Iterator[str], context: TaskContext, most: int) -> Iterator[str]:
    """The first words of each text, at most ``most`` tokens and at least two thirds of that; never the whole text."""
    tokenizer = context.lm.tokenizer
    for text in texts:
        words = text.split()
        for n in range(min(len(words) - 1, most), 0, -1):
            prefix = " ".join(words[:n])
            length = len(tokenizer(prefix, add_special_tokens=False)["input_ids"])
            if length <= most:
                if 3 * length >= 2 * most:
                    yield prefix
                break


def _given_prompts(context: TaskContext, parameters: Parameters) -> dict[str, Iterator[str]]:
    """The documents of the parameter ``prompts``, whole: a third for validation, the others for the test."""
    texts = context.read(parameters["prompts"]).texts
    order = context.rng(f"detox:prompts:{parameters['prompts']}").permutation(len(texts))
    third = len(texts) // 3
    validation, test = order[:third], order[third:]
    return {"validation": (texts[row] for row in validation), "test": (texts[row] for row in test)}


def _toxic_leaning(candidates: Iterator[str], parameters: Parameters, scorer: ToxicityScorer, split: str) -> list[str]:
    """The first of ``candidates`` that score at least ``prompt_toxicity``. Raises DataError for fewer than two."""
    most, found = parameters[f"{split}_prompts"], dict[str, None]()
    while len(found) < most:
        block = list(islice(candidates, _SCORED_AT_ONCE))
        if not block:
            break
        scores = scorer(block)
        found |= dict.fromkeys(t for t, s in zip(block, scores, strict=True) if s >= parameters["prompt_toxicity"])
    if len(found) < 2:
        raise DataError(
            f"{len(found)} prompts for the split {split!r} score {parameters['prompt_toxicity']} or more by "
            f"{scorer.name}, and two are needed; lower 'prompt_toxicity', or give more texts."
        )
    return list(found)[:most]


def _check_length(prompts: list[str], context: TaskContext, parameters: Parameters) -> None:
    """Raise UsageError for a prompt that leaves no room for its continuation."""
    room = parameters["context_length"] - max(parameters["new_tokens"], parameters["sweep_tokens"])
    for prompt in prompts:
        n = len(context.lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]) + 1
        if n > room:
            raise UsageError(
                f"The prompt {prompt[:40]!r} has {n} tokens with BOS, and 'context_length' leaves {max(room, 0)} "
                "beside its continuation; raise 'context_length' or shorten the prompt."
            )


def prompt_tokens(prompts: Sequence[str], context: TaskContext, context_length: int) -> list[list[int]]:
    """Each prompt as tokens, BOS first (EOS where the tokenizer has no BOS)."""
    rows = tokenize_examples(prompts, context.lm.tokenizer, context_length)
    return [part.tolist() for part in np.split(rows.tokens, rows.starts[1:])]
