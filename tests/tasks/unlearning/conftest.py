from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from saebench.passes.context import TaskContext
from tests.tasks.conftest import Plain
from tests.tasks.unlearning.planted import ALPHABETS, reader, written


@pytest.fixture(scope="session")
def texts(plain: Callable[[str], Plain], tiny_tokenizer: PreTrainedTokenizerFast) -> dict[str, list[str]]:
    return {ref: written(plain("gemma3"), tiny_tokenizer, alphabet) for ref, alphabet in ALPHABETS.items()}


@pytest.fixture
def tiny(context: Callable[..., TaskContext], texts: dict[str, list[str]]) -> TaskContext:
    return context("gemma3", read=reader(texts), batch_size=16)
