"""Every preset of every card can read what it names by default, on the real texts and datasets, without any pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from saebench.cards.card import PRESETS
from saebench.cards.registry import registry
from saebench.lm.load import load_lm
from saebench.passes.context import TaskContext
from saebench.passes.examples import Examples
from saebench.runner.request import DEFAULT_MODEL
from saebench.tasks.factory import create, resolve
from saebench.tasks.sparse_probing.data import datasets

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("real")]

_READ = 8  # examples of each list that are tokenised; all examples of 127 datasets take minutes


@dataclass
class QuickContext(TaskContext):
    """Reads the shortest examples of a list only, because they are those that may have no token to evaluate."""

    def examples(self, texts: Sequence[str], context_length: int) -> Examples:
        return super().examples(sorted(texts, key=len)[:_READ], context_length)


@pytest.fixture(scope="module", autouse=True)
def _each_dataset_is_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_labelled", cache(datasets.load_labelled))
        yield


@pytest.fixture(scope="module")
def context() -> TaskContext:
    return QuickContext(load_lm(DEFAULT_MODEL, device=torch.device("cpu"), dtype=torch.bfloat16))


def defaults(task: str, preset: str) -> dict[str, Any]:
    """Settings in place of those that need an extra which is not installed."""
    missing = task == "detox" and preset == "paper" and find_spec("detoxify") is None
    return {"scorer": "profanity-check"} if missing else {}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", [name for name in registry().names() if registry().card(name).model == "language"])
def test_a_preset_can_use_its_own_defaults(context: TaskContext, name: str, preset: str):
    task, settings = create(name), resolve(name, preset, defaults(name, preset))
    task.prepare(context, settings)
    hashes = task.data(context, settings)
    assert hashes
    assert all(len(content) == 64 for content in hashes.values())
