"""Which documents and positions are read, and input that cannot be used."""

from __future__ import annotations

import pytest
import torch

from saebench.errors import DataError, SaebenchError, UsageError
from saebench.passes.context import TaskContext
from saebench.tasks.dark_matter.data import evaluation_batch, fit_batch, loss_batch
from saebench.tasks.dark_matter.task import DarkMatterTask
from tests.conftest import WIDTH
from tests.tasks.conftest import documents, topk_sae
from tests.tasks.dark_matter.test_task import SETTINGS, SITE, TEXT, Function, Make, changed, measure


@pytest.fixture
def tiny(context: Make) -> TaskContext:
    return context("gemma3", read=lambda ref: TEXT, batch_size=16)


def test_what_is_fitted_to_is_not_evaluated_on(context: Make):
    """The calibration documents hold too few tokens here, so half of the others joins them."""
    text = documents(n=200)
    tiny = context("gemma3", read=lambda ref: text, batch_size=16)
    seen = {
        name: "".join(tiny.lm.tokenizer.convert_ids_to_tokens(batch.tokens.flatten().tolist()))
        for name, batch in (
            ("fit", fit_batch(tiny, SETTINGS, WIDTH)),
            ("evaluation", evaluation_batch(tiny, SETTINGS, WIDTH)),
        )
    }
    calibration = set(tiny.text("memory:tiny").calibration.texts)
    found = {
        name: {
            each for each in text.texts if "<unk>" not in each and "é" not in each and len(each) < 12 and each in joined
        }
        for name, joined in seen.items()
    }
    assert found["fit"]
    assert found["evaluation"]
    assert not found["fit"] & found["evaluation"]
    assert found["fit"] - calibration
    assert not found["evaluation"] & calibration


def test_with_enough_calibration_documents_passes_are_shared(context: Make):
    """They are what controls are fitted to, and evaluation is on the documents of every other task."""
    text = documents(n=2000)
    long = context("gemma3", read=lambda ref: text, batch_size=16)
    length, n = SETTINGS.context_length, SETTINGS.sequences
    fit, evaluation = fit_batch(long, SETTINGS, WIDTH), evaluation_batch(long, SETTINGS, WIDTH)
    assert int(fit.evaluated.sum()) >= 30 * WIDTH
    assert torch.equal(fit.tokens, long.calibration_batch(TEXT.ref, length, len(fit.tokens)).tokens)
    assert long.capture(evaluation) is long.captured(TEXT.ref, length, n)
    some = loss_batch(long, SETTINGS, WIDTH)
    assert long.capture(some) is long.clean(TEXT.ref, length, len(some.tokens), SITE).captured


def test_skipped_positions_are_in_nothing(tiny: TaskContext):
    skipping = changed(skip_positions=9)
    for batch in (
        fit_batch(tiny, skipping, WIDTH),
        evaluation_batch(tiny, skipping, WIDTH),
        loss_batch(tiny, skipping, WIDTH),
    ):
        assert not batch.evaluated[:, :9].any()
        assert batch.evaluated[:, 9:].any()
    output = measure(topk_sae(SITE), tiny, skip_positions=9)
    assert output.counts["tokens"] == int(evaluation_batch(tiny, skipping, WIDTH).evaluated.sum())
    assert output.counts["fit_tokens"] >= 30 * WIDTH


def test_too_few_tokens_are_refused_before_any_sae_is_loaded(context: Make):
    short = context("gemma3", read=lambda ref: documents(n=40), sites=(SITE,))
    with pytest.raises(DataError, match=r"give \d+ tokens to fit on, but predicting from 32 dimensions takes 960 \(30"):
        DarkMatterTask().prepare(short, SETTINGS)
    with pytest.raises(DataError, match="use a longer text"):
        measure(topk_sae(SITE), short)


def test_bad_input(context: Make, tiny: TaskContext):
    task = DarkMatterTask()
    with pytest.raises(UsageError, match="Task 'dark_matter': skip_positions=23 leaves fewer than two positions"):
        changed(skip_positions=23)
    with pytest.raises(UsageError, match="too long"):
        task.prepare(tiny, changed(context_length=1000))
    with pytest.raises(DataError, match="too few for two sequences of 24; use a longer text"):
        task.prepare(context("gemma3", read=lambda ref: documents(n=2)), SETTINGS)
    with pytest.raises(SaebenchError, match="NaN or Inf"):
        measure(Function(lambda x: x / 0), tiny)
