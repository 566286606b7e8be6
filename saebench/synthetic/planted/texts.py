"""The texts and datasets about a planted language model, all drawn from its process, each with a draw of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.stats.rng import generator
from saebench.synthetic.planted.process import Process, States
from saebench.synthetic.planted.recipe import Recipe
from saebench.synthetic.planted.words import TOPIC

FORGET = 1  # the topic that is to be forgotten: a frequent one, but not the most frequent
_SHORT = 20  # words of labelled examples
_SENTENCE = 14  # words of parallel sentences
_QUESTION = 12  # words of a question
_CHOICES = 4
_SPLITS = {"train": 0.5, "validation": 0.2, "test": 0.3}  # of parallel sentences
_CLASSES = 5  # topics of the labelled datasets

BINARY = ("language", "topic-0", "topic-2", "subtopic", "marker-0", "marker-1", "toxic")
SEVERAL = ("languages", "topics")

Row = Mapping[str, Any]


def files(process: Process) -> dict[str, bytes]:
    """Return the content of all files, by their names."""
    recipe, n = process.vocabulary.recipe, process.vocabulary.recipe.documents
    out = {
        "documents": _documents(process, "documents", n),
        "forget": _documents(process, "forget", recipe.forget_documents, topic=FORGET),
        "retain": _documents(process, "retain", n, without=[FORGET]),
        # On which suppressing a topic of the labelled data costs nothing that it should not cost.
        "unlabelled": _documents(process, "unlabelled", n, without=range(_classes(recipe))),
        "forget-questions": _questions(process, [FORGET]),
        "retain-questions": _questions(process, [k for k in range(recipe.topics) if k != FORGET]),
        "parallel": _parallel(process),
    }
    out |= {f"labelled-{name}": _labelled(process, name) for name in (*BINARY, *SEVERAL)}
    return {f"{name}.jsonl": _lines(rows) for name, rows in out.items()}


def _lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _documents(
    process: Process, purpose: str, n: int, topic: int | None = None, without: Iterable[int] = ()
) -> list[Row]:
    rng = generator(process.seed, f"planted:{purpose}")
    states = process.states(n, rng)
    if topic is not None:
        states = _of_topic(process, states, np.full(n, topic), rng)
    if excluded := list(without):
        others = np.delete(np.arange(process.vocabulary.recipe.topics), excluded)
        other = np.where(np.isin(states.topic, excluded), rng.choice(others, size=n), states.topic)
        states = _of_topic(process, states, other, rng)
    return [{"text": text} for text in _texts(process, states, process.vocabulary.recipe.words, rng)]


def _of_topic(process: Process, states: States, topic: NDArray[np.int64], rng: np.random.Generator) -> States:
    """Return documents with other topics, each with a subtopic of its topic."""
    each = process.vocabulary.recipe.subtopics
    return replace(states, topic=topic, subtopic=topic * each + rng.integers(each, size=len(states)))


def _classes(recipe: Recipe) -> int:
    """Return how many topics the labelled data have; at least one topic is left."""
    return min(_CLASSES, recipe.topics - 1)


def _texts(process: Process, states: States, words: int, rng: np.random.Generator) -> list[str]:
    return [process.vocabulary.text(tokens) for tokens in process.draw(states, words, rng)]


def _labelled(process: Process, name: str) -> list[Row]:
    """Return prompts with classes of one kind, equally many of each class."""
    recipe = process.vocabulary.recipe
    n_classes = {"languages": recipe.languages, "topics": _classes(recipe)}.get(name, 2)
    n = n_classes * recipe.labelled // 2
    rng = generator(process.seed, "planted:labelled", name)
    states = process.states(n, rng)
    kind, _, number = name.partition("-")
    sides = np.arange(n) % 2
    if name == "languages":
        target = np.arange(n) % n_classes
        states = replace(states, language=target)
    elif name == "topics":
        target = np.arange(n) % n_classes
        states = _of_topic(process, states, target, rng)
    elif kind == "language":
        target = sides
        states = replace(states, language=np.where(sides == 1, 0, 1 + rng.integers(recipe.languages - 1, size=n)))
    elif kind == "topic":
        target = sides
        others = np.delete(np.arange(recipe.topics), int(number))
        states = _of_topic(process, states, np.where(sides == 1, int(number), rng.choice(others, size=n)), rng)
    elif kind == "subtopic":
        target = sides
        states = _of_topic(process, states, np.zeros(n, dtype=np.int64), rng)
        states = replace(states, subtopic=sides)
    elif kind == "marker":
        target = sides
        markers = states.markers.copy()
        markers[:, int(number)] = sides == 1
        if recipe.markers > 1:
            markers[:, -1] &= markers[:, -2]
        states = replace(states, markers=markers)
    else:
        target = sides
        states = replace(states, toxic=sides == 1)
    texts = _texts(process, states, _SHORT, rng)
    return [{"prompt": text, "target": int(label)} for text, label in zip(texts, target, strict=True)]


def _questions(process: Process, topics: list[int]) -> list[Row]:
    """Return questions that are words of a topic, whose right answer is a word of the same topic and language.

    The wrong answers are words of other topics, so that only the topic tells which answer is right.
    """
    words = process.vocabulary
    rng = generator(process.seed, "planted:questions", "", *topics)
    n = words.recipe.questions
    states = replace(process.states(n, rng), toxic=np.zeros(n, dtype=bool))
    states = _of_topic(process, states, rng.choice(topics, size=n), rng)
    of_topic = [np.flatnonzero((words.kind == TOPIC) & (words.owner == k)) for k in range(words.recipe.topics)]
    rows: list[Row] = []
    for topic, language, text in zip(
        states.topic, states.language, _texts(process, states, _QUESTION, rng), strict=True
    ):
        others = rng.choice(np.delete(np.arange(words.recipe.topics), topic), size=_CHOICES - 1, replace=False)
        gold = int(rng.integers(_CHOICES))
        choices = [words.tokens[words.token[language, rng.choice(of_topic[k])]] for k in np.insert(others, gold, topic)]
        rows.append({"question": text, "choices": choices, "answer": gold})
    return rows


def _parallel(process: Process) -> list[Row]:
    """Return neutral sentences in all languages, word by word the same, without words of other languages."""
    words, n = process.vocabulary, process.vocabulary.recipe.sentences
    rng = generator(process.seed, "planted:parallel")
    states = replace(process.states(n, rng), toxic=np.zeros(n, dtype=bool))
    sentences = process.draw_parallel(states, _SENTENCE, rng)
    ends = np.round(np.cumsum(list(_SPLITS.values())) * n)
    splits = np.array(list(_SPLITS))[np.searchsorted(ends, np.arange(n), side="right").clip(max=len(_SPLITS) - 1)]
    return [
        {
            "split": str(split),
            **{code: words.text(sentences[k, row]) for k, code in enumerate(words.languages)},
        }
        for row, split in enumerate(splits)
    ]
