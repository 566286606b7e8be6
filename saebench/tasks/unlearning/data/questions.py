"""Multiple-choice questions on what is to be forgotten and on what is to be retained.

They are those of SciQ, divided by subject, or the user's own from a file or the Hugging Face hub.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.data.hub import load_table
from saebench.data.json_lines import read_json_lines
from saebench.data.text_ref import FileText, HubText, parse_text_ref
from saebench.errors import DataError, UsageError, did_you_mean
from saebench.harness.questions import Question, sciq_questions
from saebench.passes.context import TaskContext
from saebench.passes.scored import Item, answer_items
from saebench.tasks.unlearning.data.subjects import by_subject
from saebench.tasks.unlearning.settings import UnlearningSettings

_SUBJECTS = ("life", "other")
_FORMS = "'sciq:life', 'sciq:other', 'jsonl:PATH' or 'hf:DATASET[@REVISION][:CONFIG][:SPLIT]'"


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class QuestionSet:
    """The questions of both sides, the forget side first, and one item for each of their answers."""

    questions: tuple[Question, ...]
    n_forget: int
    items: tuple[Item, ...]
    question_of_item: NDArray[np.int64]  # [items], in ascending order

    @property
    def is_forget(self) -> NDArray[np.bool_]:
        """Which questions belong to the forget side, ``[questions]``."""
        return np.arange(len(self.questions)) < self.n_forget

    @property
    def gold(self) -> NDArray[np.int64]:
        """The place of the right answer to each question, ``[questions]``."""
        return np.array([question.gold for question in self.questions])

    @property
    def chance(self) -> NDArray[np.float64]:
        """The probability of guessing each question right, ``[questions]``."""
        return np.array([1 / len(question.choices) for question in self.questions])


def load_questions(ref: str) -> list[Question]:
    """The questions that ``ref`` names: ``sciq:life``, ``sciq:other``, ``jsonl:PATH`` or ``hf:DATASET...``.

    A row of a file or of a dataset on the hub has the fields ``question``, ``choices`` (two or more) and ``answer``
    (the place of the right choice, from 0), as WMDP and MMLU do.

    Raises:
        UsageError: There is no such reference.
        AssetError: The asset is missing.
        DataError: The data cannot be read, or a row is not a question.
    """
    scheme, _, rest = ref.partition(":")
    if scheme == "sciq":
        if rest not in _SUBJECTS:
            raise UsageError(f"There are no questions {ref!r}.{did_you_mean(rest, _SUBJECTS)} Give {_FORMS}.")
        subjects = by_subject(sciq_questions())
        return subjects.life if rest == "life" else subjects.other
    if scheme not in ("jsonl", "hf"):
        raise UsageError(f"Unknown reference {ref!r} to questions. Give {_FORMS}.")
    parsed = parse_text_ref(ref)
    if isinstance(parsed, FileText):
        questions = [_question(row.fields, row.where) for row in read_json_lines(parsed.path)]
    else:
        assert isinstance(parsed, HubText)
        table = load_table("Questions", parsed.dataset, parsed.config, parsed.split, parsed.revision)
        questions = [_question(row, f"{ref}, row {number}") for number, row in enumerate(table, start=1)]
    if not questions:
        raise DataError(f"{ref!r} has no questions.")
    return questions


def shared_questions(context: TaskContext, ref: str) -> list[Question]:
    """What `load_questions` returns, loaded once for all SAEs."""
    return context.shared(("unlearning", "questions of", ref), lambda: load_questions(ref))


def question_set(context: TaskContext, settings: UnlearningSettings) -> QuestionSet:
    """The first ``settings.questions`` questions of each side, or as many as there are.

    Raises what `load_questions` raises, and DataError for an answer that does not fit into ``question_length`` tokens.
    """
    refs = (settings.forget_questions, settings.retain_questions)
    key = ("unlearning", "questions", refs, settings.questions, settings.question_length)

    def make() -> QuestionSet:
        forget, retain = (shared_questions(context, ref)[: settings.questions] for ref in refs)
        questions = (*forget, *retain)
        pairs = [(f"Question: {q.text}\nAnswer:", f" {choice}") for q in questions for choice in q.choices]
        items = answer_items(pairs, context.lm.tokenizer, settings.question_length)
        question_of_item = np.repeat(np.arange(len(questions)), [len(q.choices) for q in questions])
        return QuestionSet(questions, len(forget), tuple(items), question_of_item)

    return context.shared(key, make)


def content_hash(questions: Iterable[Question]) -> str:
    """The sha256 of the questions in their order, with their answers and which of these is right."""
    rows = [[question.text, question.choices, question.gold] for question in questions]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _question(row: Any, where: str) -> Question:
    """The question in a row. Raises DataError naming ``where`` for a row that is not a question."""
    if not isinstance(row, dict) or not {"question", "choices", "answer"} <= set(row):
        raise DataError(f"{where}: a question needs the fields question, choices and answer.")
    text, choices, gold = row["question"], row["choices"], row["answer"]
    texts = isinstance(text, str) and isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
    if not texts or len(choices) < 2 or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise DataError(
            f"{where}: question must be text, choices a list of at least two texts, and answer the place of the right "
            "one, from 0."
        )
    return Question(text, tuple(choices), gold)
