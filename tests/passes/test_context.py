"""What SAEs share: the same split, tokens, draws and calibration for all, different for another seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from saebench.data.text import Documents
from saebench.errors import DataError
from saebench.lm.model import LanguageModel
from saebench.passes.context import TaskContext
from saebench.stats.rng import NO_CONTENT
from tests.conftest import WIDTH
from tests.tasks.conftest import PARAMETERS, documents

SITE = "blocks.1.hook_resid_post"
TEXT = str(PARAMETERS["text"])

Make = Callable[..., TaskContext]


def test_two_contexts_of_one_seed_agree_and_another_seed_does_not(context: Make):
    first, same, other = context(seed=3), context(seed=3), context(seed=4)
    assert first.text(TEXT) == same.text(TEXT)
    assert set(first.text(TEXT).calibration.texts) != set(other.text(TEXT).calibration.texts)
    assert first.text(TEXT).content_hash == other.text(TEXT).content_hash
    assert torch.equal(first.batch(TEXT, 24, 7).tokens, same.batch(TEXT, 24, 7).tokens)
    assert not torch.equal(first.batch(TEXT, 24, 7).tokens, other.batch(TEXT, 24, 7).tokens)
    np.testing.assert_array_equal(first.bootstrap_weights(7, 100), same.bootstrap_weights(7, 100))
    assert (first.bootstrap_weights(7, 100) != other.bootstrap_weights(7, 100)).any()


def test_draws_do_not_depend_on_what_was_drawn_before(context: Make):
    first, second = context(), context()
    first.rng("a", NO_CONTENT).normal(size=5)
    first.bootstrap_weights(9, 10)
    first.text(TEXT)
    one, other = (made.rng("a", "content", 1).normal(size=5) for made in (first, second))
    np.testing.assert_array_equal(one, other)
    assert len({first.rng(*drawn).normal() for drawn in (("a", "c"), ("b", "c"), ("a", "d"), ("a", "c", 1))}) == 4
    np.testing.assert_array_equal(first.bootstrap_weights(7, 10), second.bootstrap_weights(7, 10))
    assert first.text(TEXT) == second.text(TEXT)


def test_the_global_generators_are_left_alone(context: Make):
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    tiny = context()
    tiny.calibration(TEXT, SITE)
    tiny.clean(TEXT, 24, 7, SITE)
    tiny.bootstrap_weights(7, 10)
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before  # noqa: NPY002


def test_what_is_fitted_never_sees_an_evaluated_document(context: Make, monkeypatch: pytest.MonkeyPatch):
    """Every document has a letter of its own kind: the tokens of calibration and evaluation share no number."""
    text = Documents(TEXT, [f"<{i:03d}>" * 12 for i in range(60)])
    tiny = context(read=lambda ref: text)
    seen: list[torch.Tensor] = []
    prefix = LanguageModel.prefix
    monkeypatch.setattr(
        LanguageModel, "prefix", lambda self, tokens, sites: (seen.append(tokens), prefix(self, tokens, sites))[1]
    )
    tiny.calibration(TEXT, SITE)
    calibrated = {piece for row in torch.cat(seen) for piece in _numbers(tiny, row)}
    evaluated = {piece for row in tiny.batch(TEXT, 24, 50).tokens for piece in _numbers(tiny, row)}
    assert calibrated
    assert evaluated
    assert not calibrated & evaluated


def _numbers(tiny: TaskContext, tokens: torch.Tensor) -> set[str]:
    text = "".join(tiny.lm.tokenizer.convert_ids_to_tokens(tokens))
    return {piece[:3] for piece in text.split("<")[1:] if piece[:3].isdigit() and piece[3:4] == ">"}


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_calibration_gives_the_activations_of_tokens_that_are_not_special(context: Make, batch_size: int):
    tiny = context("gemma3", batch_size=batch_size)
    found = tiny.calibration(TEXT, SITE)
    assert found.dtype == torch.float32
    assert found.shape[1] == WIDTH
    torch.testing.assert_close(found, context("gemma3", batch_size=3).calibration(TEXT, SITE), rtol=1e-4, atol=1e-5)
    assert tiny.calibration(TEXT, SITE) is found


def test_a_longer_text_that_begins_with_the_calibration_serves_it(context: Make, monkeypatch: pytest.MonkeyPatch):
    text = documents(n=3000)
    alone, both = (context("gemma3", read=lambda ref: text, batch_size=16) for _ in range(2))
    expected = alone.calibration(TEXT, SITE)
    length = min(128, both.lm.config.max_position_embeddings)
    captured = both.capture(both.calibration_batch(TEXT, length, 150))
    captured.want(SITE)
    captured.complete("all of it", lambda shard: None)
    monkeypatch.setattr(both.lm, "prefix", None)  # no other pass
    assert torch.equal(both.calibration(TEXT, SITE), expected)


def test_calibration_when_memory_runs_out(context: Make, monkeypatch: pytest.MonkeyPatch):
    expected = context().calibration(TEXT, SITE)
    prefix = LanguageModel.prefix

    def tight(self: Any, tokens: torch.Tensor, sites: list[str]) -> Any:
        if len(tokens) > 1:
            raise MemoryError
        return prefix(self, tokens, sites)

    monkeypatch.setattr(LanguageModel, "prefix", tight)
    torch.testing.assert_close(context().calibration(TEXT, SITE), expected, rtol=1e-4, atol=1e-5)


def test_calibration_fits_into_the_models_positions(context: Make):
    """GPT-2 has a table of positions: more of them than it has would be an error deep inside (on CUDA, a crash)."""
    text = documents(n=200)
    found = context("gpt2", read=lambda ref: text).calibration(TEXT, SITE)
    assert len(found) > 64


def test_too_little_text_for_calibration_says_who_needs_it(context: Make):
    text = documents(n=8)
    with pytest.raises(DataError, match=r"too few.*controls that are fitted \(pca, random\)"):
        context(read=lambda ref: text).calibration(TEXT, SITE)


def test_things_are_made_once(context: Make):
    reads: list[str] = []
    text = documents()
    tiny = context(read=lambda ref: (reads.append(ref), text)[1])
    assert tiny.clean(TEXT, 24, 7, SITE) is tiny.clean(TEXT, 24, 7, SITE)
    assert tiny.batch(TEXT, 24, 7) is tiny.batch(TEXT, 24, 7)
    assert tiny.clean(TEXT, 24, 7, SITE) is not tiny.clean(TEXT, 24, 6, SITE)
    assert tiny.clean(TEXT, 24, 7, SITE) is not tiny.clean(TEXT, 20, 7, SITE)
    assert reads == [TEXT]


def test_what_is_shared_is_made_once_for_each_key(context: Make):
    tiny, made = context(), []

    def make() -> object:
        made.append(object())
        return made[-1]

    first = tiny.shared(("task", 1), make)
    assert tiny.shared(("task", 1), make) is first
    assert tiny.shared(("task", 2), make) is not first
    assert tiny.shared("nothing", lambda: None) is None
    assert tiny.shared("nothing", make) is None
    assert len(made) == 2


def test_equal_sequences_are_captured_once(context: Make):
    tiny = context("gemma3")
    batch = tiny.batch(TEXT, 24, 7)
    other = replace(batch, evaluated=~batch.evaluated)
    assert tiny.capture(replace(batch)) is tiny.captured(TEXT, 24, 7)
    assert tiny.capture(other) is not tiny.captured(TEXT, 24, 7)
