"""Subjects by words, and what is read off the probabilities of answers, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from saebench.evaluation import Report
from saebench.harness.questions import Question
from saebench.passes.context import TaskContext
from saebench.passes.scored import Item
from saebench.stats.intervals import Estimate
from saebench.tasks.unlearning.data.questions import QuestionSet, content_hash, load_questions
from saebench.tasks.unlearning.data.subjects import by_subject
from saebench.tasks.unlearning.report import ResultReport
from saebench.tasks.unlearning.scoring.answers import ChosenAnswers, QuestionMetrics, chosen_answers
from saebench.tasks.unlearning.scoring.samples import Samples
from tests.tasks.unlearning.planted import CARD


@pytest.mark.parametrize(
    ("text", "answer", "subject"),
    [
        ("What do white blood cells fight?", "infection", "life"),
        ("Which organ makes insulin?", "the pancreas", "life"),
        ("What force pulls objects down?", "gravity", "other"),
        ("What is a star made of?", "gas", "other"),
        ("Which gas do plants release?", "oxygen", "left_out"),  # words of both
        ("What is it called?", "a name", "left_out"),  # words of neither
        ("What is this?", "a muscle", "life"),  # the right answer counts
        ("What is excellent?", "a miscellany", "left_out"),  # beginnings of words, not parts
    ],
)
def test_subjects(text: str, answer: str, subject: str):
    found = by_subject([Question(text, ("gravity and cells", answer), 1)])
    assert len(getattr(found, subject)) == 1


def test_jsonl_questions_keep_their_order(tmp_path: Path):
    path = tmp_path / "q.jsonl"
    rows = [{"question": f"q{i}", "choices": ["a", "b", "c"], "answer": i, "subject": "x"} for i in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = load_questions(f"jsonl:{path}")
    assert found == [Question(f"q{i}", ("a", "b", "c"), i) for i in range(3)]
    assert content_hash(found) != content_hash(found[::-1])


def item(n: int) -> Item:
    return Item((2, *range(10, 10 + n)), tuple(range(1, n + 1)))


def asked() -> QuestionSet:
    """Two questions on each side, two answers each; of the second one both answers have one token."""
    lengths = [1, 2, 1, 1, 2, 1, 1, 3]
    questions = tuple(Question(f"q{i}", ("a", "b"), gold) for i, gold in enumerate((0, 1, 0, 1)))
    return QuestionSet(questions, 2, tuple(map(item, lengths)), np.repeat(np.arange(4), 2))


def test_answers_by_hand():
    found = chosen_answers(asked(), torch.tensor([1.0, 2, 3, 5, 4, 1, 2, 7], dtype=torch.float64))
    assert found.choice.tolist() == [0, 0, 1, 0]
    assert found.correct.tolist() == [1, 0, 0, 0]
    assert found.margin.tolist() == [1, -2, -3, -5]
    np.testing.assert_array_equal(found.shortest, [1, np.nan, 1, 1])


def answers(correct: list[float]) -> ChosenAnswers:
    right = np.array(correct)
    return ChosenAnswers(np.where(right == 1, asked().gold, 1 - asked().gold), right, right - 0.5, np.ones(4))


def metrics(context: TaskContext, clean: list[float]) -> QuestionMetrics:
    return QuestionMetrics(asked(), answers(clean), Samples(context, 100))


def value(estimate: Estimate) -> float | None:
    return None if np.isnan(estimate.value) else estimate.value


@pytest.mark.parametrize(
    ("clean", "now", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),  # nothing forgotten
        ([1, 1, 1, 1], [1, 0, 1, 1], 1.0),  # down to chance on one side, the other kept
        ([1, 1, 1, 1], [0, 0, 1, 0], 0.5),  # below chance counts as chance; half is kept
        ([1, 0, 1, 1], [1, 0, 1, 1], None),  # no better than chance to begin with
    ],
)
def test_alignment(tiny: TaskContext, clean: list[float], now: list[float], expected: float | None):
    assert value(metrics(tiny, clean).alignment(answers(now))) == expected


@pytest.mark.parametrize(
    ("clean", "settings", "expected"),
    [
        ([1, 1, 1, 1], [], 0.0),
        ([1, 1, 1, 1], [[0, 0, 1, 0]], 0.0),  # a side effect: does not qualify
        ([1, 1, 1, 1], [[1, 0, 1, 1], [0, 0, 0, 1]], 0.5),
        ([1, 0, 1, 0], [[0, 1, 1, 1]], 1.0),  # only what was known before counts
        ([0, 0, 1, 1], [[0, 0, 1, 1]], None),
    ],
)
def test_saebench_score(tiny: TaskContext, clean: list[float], settings: list[list[float]], expected: float | None):
    assert value(metrics(tiny, clean).saebench_score([answers(each) for each in settings])) == expected


def test_a_model_that_always_says_the_same_has_no_entropy(tiny: TaskContext):
    stuck = ChosenAnswers(np.zeros(4, int), np.array([1.0, 0, 1, 0]), np.zeros(4), np.ones(4))
    assert metrics(tiny, [1, 1, 1, 1]).answer_entropy(stuck).value == 0
    assert metrics(tiny, [1, 1, 1, 1]).answer_entropy(answers([1, 1, 1, 1])).value == 1


def test_answers_are_reported_with_the_reason_where_they_are_not_scored(tiny: TaskContext):
    samples = Samples(tiny, 100)
    questions = metrics(tiny, [1, 0, 1, 1])  # no better than chance on forget questions
    measured = ResultReport(Report(CARD, tiny, 100), samples, questions)
    measured.answers(["clamp"], ChosenAnswers(np.zeros(4, int), np.ones(4), np.zeros(4), np.array([1, 0, 1, np.nan])))
    measured.saebench_score([answers([0, 1, 1, 1])])
    output = measured.report.output()
    reported = {m.metric: m for m in output.measurements}
    share = reported["shortest_answer_share"]
    assert (share.subset, share.value, share.n) == ("clamp", pytest.approx(2 / 3), 3)
    assert reported["question_accuracy_forget_change"].value == 0.5
    assert reported["alignment"].value is None
    assert "no better than chance" in str(reported["alignment"].not_scored)
    assert reported["saebench_unlearning_score"].value == 1
    assert output.counts == {"not_scored": 1}
