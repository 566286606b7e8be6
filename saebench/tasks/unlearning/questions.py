"""Questions on both sides: SciQ divided by subject, or questions of one's own, scored by the answers' probability."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from saebench.data.text_ref import HubText, JsonlText, parse_text_ref
from saebench.errors import DataError, UsageError, did_you_mean
from saebench.harness.questions import Question, sciq_questions
from saebench.passes.context import TaskContext
from saebench.passes.scored import Item, answer_items
from saebench.tasks.unlearning.subjects import by_subject

SIDES = ("forget", "retain")
_SUBJECTS = ("life", "other")
_FORMS = "'sciq:life', 'sciq:other', 'jsonl:PATH' or 'hf:DATASET[@REVISION][:CONFIG][:SPLIT]'"


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """Questions of both sides, one side after the other, and the items of all their answers."""

    questions: tuple[Question, ...]
    n_forget: int
    items: tuple[Item, ...]
    of_item: NDArray[np.int64]  # [items], the question of each

    @property
    def is_forget(self) -> NDArray[np.bool_]:
        return np.arange(len(self.questions)) < self.n_forget

    @property
    def chance(self) -> NDArray[np.float64]:
        """``[questions]``: what guessing scores."""
        return np.array([1 / len(question.choices) for question in self.questions])

    def answers(self, ce: Float[Tensor, " items"]) -> Answers:
        """What is chosen when the answers have the summed cross-entropies ``ce``."""
        log_p, gold = -ce.numpy(), np.array([question.gold for question in self.questions])
        ends = np.flatnonzero(np.diff(self.of_item)) + 1
        per_question = np.split(log_p, ends)
        choice = np.array([int(each.argmax()) for each in per_question])
        margin = np.array([each[g] - np.delete(each, g).max() for each, g in zip(per_question, gold, strict=True)])
        lengths = np.split(
            np.array([len(item.predict) for item in self.items]), np.flatnonzero(np.diff(self.of_item)) + 1
        )
        shortest = np.array([float(n[c] == n.min()) for n, c in zip(lengths, choice, strict=True)])
        shortest[[bool((n == n[0]).all()) for n in lengths]] = np.nan
        return Answers(choice, (choice == gold).astype(float), margin, shortest)


@dataclass(frozen=True, eq=False)
class Answers:
    """``[questions]`` each."""

    choice: NDArray[np.int64]
    correct: NDArray[np.float64]  # 1 or 0
    margin: NDArray[np.float64]  # nats by which the right answer is more probable than the most probable wrong one
    shortest: NDArray[np.float64]  # 1 where no answer has fewer tokens than the chosen one; NaN where all have as many


def load_questions(ref: str) -> list[Question]:
    """The questions that ``ref`` names: ``sciq:life``, ``sciq:other``, ``jsonl:PATH``, ``hf:DATASET...``.

    Rows have ``question``, ``choices`` (two or more) and ``answer`` (the place of the right one), as WMDP and MMLU do.
    Raises UsageError (reference), AssetError (asset not there), DataError (unreadable, or a row that is no question).
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
    rows = _jsonl_rows(parsed.path) if isinstance(parsed, JsonlText) else _hub_rows(parsed)  # type: ignore[arg-type]
    found = [_question(row, f"{ref}, row {number}") for number, row in enumerate(rows, start=1)]
    if not found:
        raise DataError(f"{ref!r} holds no question.")
    return found


def questions_of(context: TaskContext, ref: str) -> list[Question]:
    """`load_questions`, once for all SAEs."""
    return context.shared(("unlearning", "questions of", ref), lambda: load_questions(ref))


def question_set(context: TaskContext, parameters: dict[str, Any]) -> QuestionSet:
    """The first ``questions`` of both sides, as many of each as there are. Raises what `load_questions` does."""
    refs, n = (parameters["forget_questions"], parameters["retain_questions"]), parameters["questions"]
    length = parameters["question_length"]

    def make() -> QuestionSet:
        forget, retain = (questions_of(context, ref)[:n] for ref in refs)
        questions = (*forget, *retain)
        pairs = [(f"Question: {q.text}\nAnswer:", f" {choice}") for q in questions for choice in q.choices]
        items = answer_items(pairs, context.lm.tokenizer, length)
        of_item = np.repeat(np.arange(len(questions)), [len(q.choices) for q in questions])
        return QuestionSet(questions, len(forget), tuple(items), of_item)

    return context.shared(("unlearning", "questions", refs, n, length), make)


def content_hash(questions: Iterable[Question]) -> str:
    """sha256 over questions, answers and which is right, in order."""
    rows = [[question.text, question.choices, question.gold] for question in questions]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _question(row: Any, where: str) -> Question:
    """Raises DataError naming ``where`` for a row that is no question."""
    if not isinstance(row, dict) or not {"question", "choices", "answer"} <= set(row):
        raise DataError(f"{where}: a question needs the fields question, choices and answer.")
    text, choices, gold = row["question"], row["choices"], row["answer"]
    texts = isinstance(text, str) and isinstance(choices, list) and all(isinstance(each, str) for each in choices)
    if not texts or len(choices) < 2 or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise DataError(
            f"{where}: question must be text, choices two texts or more, and answer the place of the right one, from 0."
        )
    return Question(text, tuple(choices), gold)


def _jsonl_rows(path: Path) -> list[Any]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read the questions {path}: {error}.") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not valid JSON ({error.msg}).") from error
    return found


def _hub_rows(ref: HubText) -> Iterable[Any]:
    try:
        import datasets
    except ImportError as error:
        raise DataError("Questions from the hub need the extra 'hub': pip install 'saebench[hub]'.") from error
    try:
        return datasets.load_dataset(ref.dataset, ref.config, split=ref.split, revision=ref.revision)
    except Exception as error:  # datasets, the hub client and the network each raise their own kinds
        raise DataError(f"Cannot load the questions {ref.dataset!r} from the hub: {error}") from error
