"""The clean pass and its ablations, against full passes of a plain model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from saebench.cache.tensors import TensorCache
from saebench.lm.model import LanguageModel
from saebench.passes.captured import CapturedText
from saebench.passes.clean import CleanPass
from saebench.passes.context import TaskContext
from saebench.progress import NullProgress
from tests.tasks.conftest import KINDS, Plain, activations

SITE = "blocks.1.hook_resid_post"

Make = Callable[..., TaskContext]


def clean_pass(tiny: TaskContext, site: str = SITE, batch_size: int = 3, cache: TensorCache | None = None) -> CleanPass:
    cache = cache or TensorCache(None, memory=10**8, disk=0)
    captured = CapturedText(tiny.lm, tiny.batch("memory:tiny", 24, 7), cache, batch_size, NullProgress())
    return CleanPass(captured, site, NullProgress())


@pytest.mark.parametrize("family", ["gemma3", "gemma2", "gpt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_activations_and_losses_of_each_sequence(context: Make, plain: Callable[[str], Plain], family: str, kind: str):
    tiny, site = context(family), f"blocks.2.{kind}"
    clean = clean_pass(tiny, site)
    model, tokens = plain(family), clean.captured.batch.tokens
    whole = model.activation(tokens, site)
    scale = np.abs(whole).max()
    np.testing.assert_allclose(activations(clean), whole, atol=1e-5 * scale)
    evaluated = clean.evaluated.numpy()
    predicts = evaluated[:, 1:]
    np.testing.assert_array_equal(clean.predictions, predicts.sum(1))
    np.testing.assert_allclose(clean.centre.mean, whole[evaluated].mean(0), atol=1e-5 * scale)
    np.testing.assert_allclose(clean.centre.variance, whole[evaluated].var(0), rtol=1e-3, atol=1e-6 * scale**2)

    def sums(log_q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        picked = np.take_along_axis(log_q[:, :-1], tokens.numpy()[:, 1:, None], -1)[..., 0]
        kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)[:, :-1]
        return (-picked * predicts).sum(1), (kl * predicts).sum(1)

    log_p = model.log_probabilities(tokens)
    np.testing.assert_allclose(clean.ce, sums(log_p)[0], rtol=1e-4)
    for losses, new in ((clean.zero, 0 * whole), (clean.mean, whole[evaluated].mean(0) + 0 * whole)):
        ce, kl = sums(model.log_probabilities(tokens, site, evaluated, new))
        np.testing.assert_allclose(losses.ce, ce, rtol=1e-4)
        np.testing.assert_allclose(losses.kl, kl, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_own_activation_in_place_is_the_clean_pass(context: Make, kind: str):
    clean = clean_pass(context("gemma3"), f"blocks.1.{kind}")
    own = clean.spliced(lambda batch: batch.positions.at_evaluated(batch.activations), "own")
    assert torch.equal(own.ce, clean.ce)
    assert float(own.kl.abs().max()) < 1e-4


@pytest.mark.parametrize(("batch_size", "fits"), [(7, 2), (5, 2), (3, 1), (7, 6)])
def test_running_out_of_memory_in_the_clean_pass(
    context: Make, monkeypatch: pytest.MonkeyPatch, batch_size: int, fits: int
):
    tiny = context("gemma3")
    calm = clean_pass(tiny, batch_size=7)
    for name in ("capture", "suffix"):

        def tight(self: Any, tokens: torch.Tensor, *rest: Any, real: Any = getattr(LanguageModel, name)) -> Any:
            if len(tokens) > fits:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return real(self, tokens, *rest)

        monkeypatch.setattr(LanguageModel, name, tight)
    found = clean_pass(tiny, batch_size=batch_size)
    assert found.batch_size <= fits
    np.testing.assert_allclose(found.ce, calm.ce, rtol=1e-5)
    np.testing.assert_allclose(activations(found), activations(calm), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.zero.kl, calm.zero.kl, rtol=1e-4)


def test_other_errors_are_not_taken_for_memory(context: Make):
    clean = clean_pass(context())
    calls: list[object] = []

    def fail(batch: object) -> torch.Tensor:
        calls.append(batch)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        clean.spliced(fail, "fails")
    assert len(calls) == 1


def test_ablations_are_computed_once_and_only_when_asked_for(context: Make, monkeypatch: pytest.MonkeyPatch):
    suffixes: list[str] = []
    real = LanguageModel.suffix
    monkeypatch.setattr(LanguageModel, "suffix", lambda self, *rest: (suffixes.append(rest[1]), real(self, *rest))[1])
    clean = clean_pass(context())
    assert suffixes == []
    assert clean.zero is clean.zero
    assert clean.mean is clean.mean
    assert len(suffixes) == 2 * 3  # batches of 3, 3 and 1
