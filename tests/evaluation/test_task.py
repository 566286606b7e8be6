"""The base classes of tasks: the card, the texts of the identity, and which methods a scope requires."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from saebench.evaluation import GroupTask, SAEGroup, SAETask, Settings, TaskOutput, TextSettings
from saebench.passes.context import TaskContext
from tests.cards.made_up import card, installed, metric

COUNTING = card("counting", [metric("count", None, primary=True)])


class Counts(Settings):
    times: int = 1


class Reads(TextSettings):
    text: str = "asset:x"


class Counting(SAETask[Counts]):
    name = "counting"
    settings = Counts

    def run(self, sae: Any, context: TaskContext, settings: Counts) -> TaskOutput:
        return TaskOutput([])


class Reading(SAETask[Reads], GroupTask[Reads]):
    name = "counting"
    settings = Reads

    def data(self, context: TaskContext, settings: Reads) -> dict[str, str]:
        return super().data(context, settings) | {"csv:labels.csv": "22"}

    def run(self, sae: Any, context: TaskContext, settings: Reads) -> TaskOutput:
        return TaskOutput([])

    def run_group(self, group: SAEGroup, context: TaskContext, settings: Reads) -> TaskOutput:
        return TaskOutput([])


@pytest.fixture(autouse=True)
def made_up_card() -> Iterator[None]:
    with installed(COUNTING):
        yield


def context() -> TaskContext:
    def text(reference: str) -> SimpleNamespace:
        return SimpleNamespace(content_hash=f"hash of {reference}")

    return cast(TaskContext, SimpleNamespace(text=text))


def test_a_task_knows_its_card():
    assert Counting().card is COUNTING


def test_a_task_needs_nothing_and_prepares_nothing_by_default():
    assert Counting.needs == frozenset()
    assert Counting().prepare(context(), Counts()) is None


def test_the_identity_holds_the_text_of_a_task_that_reads_one():
    assert Counting().data(context(), Counts()) == {}
    data = Reading().data(context(), Reads(text="jsonl:mine"))
    assert data == {"jsonl:mine": "hash of jsonl:mine", "csv:labels.csv": "22"}


@pytest.mark.parametrize(("base", "method"), [(SAETask, "run"), (GroupTask, "run_group")])
def test_a_scope_requires_its_method(base: type, method: str):
    incomplete = type("Incomplete", (base,), {"name": "counting", "settings": Counts})
    with pytest.raises(TypeError, match=f"abstract method '?{method}"):
        incomplete()


def test_outputs_do_not_share_their_parts():
    one, other = TaskOutput([]), TaskOutput([])
    one.counts["tokens"] = 1
    one.notes["chosen"] = 1
    assert (other.arrays, other.counts, other.notes) == ({}, {}, {})
