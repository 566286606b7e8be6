"""Multiple-choice questions from the sae-probes asset, in the form that lm-eval needs.

The task definitions beside this module name these functions. Every set of questions has one fixed random order, so that
its first questions are a random sample. Repeated rows, and rows with several answers, are dropped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from saebench.data.labelled import Labelled, load_labelled
from saebench.errors import DataError
from saebench.stats.rng import generator

if TYPE_CHECKING:
    import datasets

FEWSHOT = 100  # the questions that are kept for few-shot prompts
_ORDER_SEED = 0
_LETTERS = "ABCD"
_OPTIONS = re.compile(r"(.*)\(A\)(.*)\(B\)(.*)\(C\)(.*)\(D\)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """A question with its possible answers."""

    text: str
    choices: tuple[str, ...]
    gold: int  # the place of the right answer


def sciq_questions() -> list[Question]:
    """Return the questions of SciQ (arXiv 1707.06209), with the right answer to another question as the wrong choice.

    The asset has one answer to each question, which is right or wrong, so wrong choices are made here. The right
    answers with the same number of words are exchanged among their questions, so that every answer is right once and
    wrong once. So it does not help to know which answers are probable without the question.
    """
    data = _load("36_sciq_tf")
    right = [_question_and_answer(text, data.ref) for text, kind in _rows(data) if kind == "1"]
    wrong = _exchanged([answer for _, answer in right])
    kept = [(*pair, wrong[i]) for i, pair in enumerate(right) if i in wrong]
    golds = generator(_ORDER_SEED, "choices", data.content_hash).integers(2, size=len(kept)).tolist()
    return [
        Question(question, (answer, other) if gold == 0 else (other, answer), gold)
        for (question, answer, other), gold in zip(kept, golds, strict=True)
    ]


def truthfulqa_questions() -> list[Question]:
    """Return the questions of TruthfulQA as true or false: is this answer to this question correct?"""
    return _statements("41_truthqa_tf", {"correct": "True", "incorrect": "False"})


def commonsense_questions() -> list[Question]:
    """Return the statements and questions of CommonsenseQA 2.0 (arXiv 2201.05320), to be answered with yes or no."""
    return _statements("54_cs_tf", {"no": "no", "yes": "yes"})


def sst2_questions() -> list[Question]:
    """Return the questions of SST-2 (GLUE, arXiv 1804.07461): is this phrase of a film review positive or negative?"""
    return _statements("92_glue_sst2", {"0": "negative", "1": "positive"})


def openbookqa_questions() -> list[Question]:
    """Return the questions of OpenBookQA (arXiv 1809.02789), with four answers each."""
    data = _load("55_open_qa")
    questions = []
    for text, letter in _rows(data):
        match = _OPTIONS.fullmatch(text)
        if match is None or letter not in _LETTERS:
            raise DataError(
                f"{data.ref}: there are no four options in {text!r}; run `saebench assets verify sae-probes`."
            )
        stem, *choices = (part.strip() for part in match.groups())
        questions.append(Question(stem, tuple(choices), _LETTERS.index(letter)))
    return questions


def _load(name: str) -> Labelled:
    return load_labelled(f"asset:sae-probes/{name}")


def _rows(data: Labelled) -> list[tuple[str, str]]:
    """Return each text with the name of its class, in the fixed order."""
    order = generator(_ORDER_SEED, "questions", data.content_hash).permutation(len(data.texts))
    return [(data.texts[i], data.classes[data.labels[i]]) for i in order]


def _statements(name: str, choices: dict[str, str]) -> list[Question]:
    """Return a question for each row. ``choices`` are the answers by class."""
    kinds, answers = list(choices), tuple(choices.values())
    return [Question(text, answers, kinds.index(kind)) for text, kind in _rows(_load(name))]


def _question_and_answer(text: str, ref: str) -> tuple[str, str]:
    question, mark, answer = text.removeprefix("Q: ").partition("\nA: ")
    if not mark:
        raise DataError(f"{ref}: there is no answer in {text!r}; run `saebench assets verify sae-probes`.")
    return question, answer


def _exchanged(answers: list[str]) -> dict[int, str]:
    """Return another answer with the same number of words for each place, where four or more count as four.

    If more than half of the answers of a length are the same, the places of that length are left out.
    """
    places: dict[int, list[int]] = {}
    for place, answer in enumerate(answers):
        places.setdefault(min(len(answer.split()), 4), []).append(place)
    exchanged = {}
    for same in places.values():
        same.sort(key=lambda place: answers[place].lower())  # so that the answer half the length further is another
        half = len(same) // 2
        if max(Counter(answers[place].lower() for place in same).values()) <= half:
            others = same[half:] + same[:half]
            exchanged.update({place: answers[other] for place, other in zip(same, others, strict=True)})
    return exchanged


QUESTIONS: dict[str, Callable[[], list[Question]]] = {
    "sciq": sciq_questions,
    "openbookqa": openbookqa_questions,
    "truthfulqa": truthfulqa_questions,
    "commonsense": commonsense_questions,
    "sst2": sst2_questions,
}


def dataset(questions: str, **_: Any) -> datasets.DatasetDict:
    """Return a set of questions with the splits ``train``, for few-shot prompts, and ``test``.

    The task definitions name this function. lm-eval also passes the arguments of its model, which are ignored.
    """
    from datasets import Dataset, DatasetDict

    rows = [asdict(question) for question in QUESTIONS[questions]()]
    return DatasetDict({"train": Dataset.from_list(rows[:FEWSHOT]), "test": Dataset.from_list(rows[FEWSHOT:])})
