"""Which rows are used for what, frames, and random texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.parallel import Parallel
from saebench.passes.context import TaskContext
from saebench.tasks.language_steering.data import Sentences, parallel_sentences, random_texts, script, token_ids
from saebench.tasks.language_steering.frames import FRAMES
from saebench.tasks.language_steering.settings import FrameName
from tests.tasks.language_steering.conftest import parsed

ROW = {"en": "The red cat sleeps here.", "fr": "Le chat roux dort ici.", "ru": "Рыжий кот спит тут."}
SHOTS = [{"en": "One day.", "fr": "Un jour.", "ru": "Один день."}, {"en": "Two.", "fr": "Deux.", "ru": "Два."}]


def parallel(n: int) -> Parallel:
    rows = [{language: f"{text} {i}" for language, text in ROW.items()} for i in range(n)]
    return Parallel("memory:", ("en", "fr", "ru"), {"train": rows, "validation": rows, "test": rows})


def drawn(n: int) -> Sentences:
    """Sentences with ``n`` rows in every split, in an order drawn at random."""
    order = np.random.default_rng(0).permutation(n)
    return Sentences(parallel(n), ("en", "fr", "ru"), "en", {"train": order, "validation": order, "test": order})


@given(st.integers(1, 20), st.integers(1, 30))
def test_targets_share_rows_no_more_than_they_must(n: int, asked: int):
    places = drawn(n).places("test", asked)
    assert set(places) == {"fr", "ru"}
    most = min(asked, n)
    assert all(len(np.unique(rows)) == len(rows) == most for rows in places.values())
    assert len(np.unique(np.concatenate(list(places.values())))) == min(n, 2 * most)


def test_rows_stay_parallel():
    found = drawn(7)
    first = found.first("test", 4)
    assert [text.rsplit(" ", 1)[1] for text in first["fr"]] == [text.rsplit(" ", 1)[1] for text in first["ru"]]
    assert found.at("test", "fr", np.array([2])) == [first["fr"][2]]
    assert len(found.first("test", 99)["en"]) == 7


def test_script():
    assert script(["Le chat", "42 !"]) == "LATIN"
    assert script(["Рыжий кот"]) == "CYRILLIC"
    assert script(["猫在睡觉"]) == "CJK"
    assert script(["12 ?"]) == ""
    assert drawn(3).same_script == ("en", "fr")


@pytest.mark.parametrize(
    ("frame", "prompt"),
    [
        ("line", "The red cat sleeps here.\n"),
        ("half", "The red"),
        ("copy", "One day.\nOne day.\n\nTwo.\nTwo.\n\nThe red cat sleeps here.\n"),
        ("mixed", f"One day.\nUn jour.\n\nTwo.\n{SHOTS[1]['ru']}\n\nThe red cat sleeps here.\n"),
        ("quotes", '"The red cat sleeps here." = "'),
    ],
)
def test_frames(frame: FrameName, prompt: str):
    assert FRAMES[frame].prompt(ROW["en"], "en", SHOTS, 0) == prompt


def test_half_of_a_text_of_one_word():
    assert FRAMES["half"].prompt("猫", "zh", [], 0) == "猫"


@pytest.mark.parametrize(
    ("frame", "continuation", "answer"),
    [
        ("line", " Le chat.\nThe dog.", "Le chat."),
        ("line", "\n\nLe chat.", "Le chat."),
        ("line", "\n \n", ""),
        ("line", "", ""),
        ("quotes", 'Le chat." and', "Le chat."),
        ("quotes", "Le chat.\nThe dog", "Le chat."),
        ("quotes", '"', ""),
    ],
)
def test_answers(frame: FrameName, continuation: str, answer: str):
    assert FRAMES[frame].answer(continuation) == answer


def test_random_texts_have_the_lengths_of_texts_and_no_special_tokens(context: TaskContext):
    texts = ["abcde", "abcdefghi"]
    found = random_texts(context, texts, 50)
    tokens = [ids[1:] for ids in token_ids(context, found)]
    assert {len(ids) for ids in tokens} == {5, 9}
    assert not {token for ids in tokens for token in ids} & set(context.lm.tokenizer.all_special_ids)
    assert not any("unused" in text for text in found)  # the tiny tokenizer reads its unused tokens letter by letter
    assert found == random_texts(TaskContext(context.lm), texts, 50)
    assert found != random_texts(TaskContext(context.lm, seed=1), texts, 50)


def test_the_seed_draws_the_rows(context: TaskContext, parameters: dict[str, Any], written: Callable[..., str]):
    settings = parsed(parameters, parallel=written(train=40))
    first, again = (parallel_sentences(TaskContext(context.lm), settings) for _ in range(2))
    other = parallel_sentences(TaskContext(context.lm, seed=1), settings)
    assert first.first("train", 5) == again.first("train", 5)
    assert first.first("train", 5) != other.first("train", 5)
