"""Index lists of evaluated tokens and predictions, against the boolean masks that define them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from saebench.data.tokens import TokenBatch
from saebench.passes.positions import Positions

CPU = torch.device("cpu")
MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7))
NOTHING, EVERYTHING = np.zeros((3, 4), bool), np.ones((3, 4), bool)
FIRST_ALONE, ONE_TOKEN = np.eye(1, 4, dtype=bool).repeat(2, 0), np.eye(3, 4, k=1, dtype=bool)


def batch_of(mask: np.ndarray) -> TokenBatch:
    tokens = torch.arange(mask.size).view(mask.shape)  # each its own, so that a wrong place is seen
    return TokenBatch(tokens, torch.from_numpy(mask), n_documents=1)


@st.composite
def some_rows(draw: st.DrawFn) -> tuple[np.ndarray, slice]:
    mask = draw(MASKS)
    start = draw(st.integers(0, len(mask) - 1))
    return mask, slice(start, draw(st.integers(start + 1, len(mask))))


@given(some_rows())
@example((NOTHING, slice(0, 3)))
@example((EVERYTHING, slice(1, 3)))
@example((FIRST_ALONE, slice(0, 2)))
@example((ONE_TOKEN, slice(0, 3)))
@example((np.array([[True]]), slice(0, 1)))
def test_every_index_is_that_of_the_mask(case: tuple[np.ndarray, slice]):
    mask, rows = case
    batch = batch_of(mask)
    here, tokens = mask[rows], batch.tokens[rows].numpy()
    positions = Positions.of(batch, rows, CPU)
    predicts = np.zeros_like(here)
    predicts[:, :-1] = here[:, 1:]
    np.testing.assert_array_equal(positions.tokens, tokens)
    np.testing.assert_array_equal(positions.sequence, np.nonzero(mask[rows])[0] + rows.start)
    np.testing.assert_array_equal(positions.targets, tokens[:, 1:][here[:, 1:]])

    x = torch.randn(*here.shape, 3, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    np.testing.assert_array_equal(positions.at_evaluated(x), x.numpy()[here])
    np.testing.assert_array_equal(positions.at_predictions(x), x.numpy()[predicts])
    new = torch.randn(int(here.sum()), 3, generator=torch.Generator().manual_seed(1))
    expected = x.numpy().copy()
    expected[here] = new.numpy()
    np.testing.assert_array_equal(positions.with_evaluated(x, new), expected)
    positions.at_evaluated(x).zero_()
    assert torch.equal(x, before)


@given(some_rows(), st.integers(0, 2**32 - 1))
@example((NOTHING, slice(0, 3)), 0)
@example((EVERYTHING, slice(0, 3)), 0)
@example((FIRST_ALONE, slice(0, 2)), 0)
def test_sums_of_each_sequence(case: tuple[np.ndarray, slice], seed: int):
    mask, rows = case
    here = mask[rows][:, 1:]
    positions = Positions.of(batch_of(mask), rows, CPU)
    values = np.random.default_rng(seed).normal(scale=10, size=(2, int(here.sum()))).astype(np.float32)
    expected = np.zeros((2, *here.shape))
    expected[:, here] = values
    found = positions.per_sequence(torch.from_numpy(values))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected.sum(-1), rtol=1e-12, atol=1e-12)


@given(MASKS, st.integers(1, 4))
def test_batches_hold_each_token_and_prediction_once(mask: np.ndarray, size: int):
    batch = batch_of(mask)
    parts = [
        Positions.of(batch, slice(start, min(start + size, len(mask))), CPU) for start in range(0, len(mask), size)
    ]
    evaluated = [part.tokens.flatten()[part.evaluated] for part in parts]
    np.testing.assert_array_equal(torch.cat(evaluated), batch.tokens.numpy()[mask])
    np.testing.assert_array_equal(torch.cat([p.targets for p in parts]), batch.tokens.numpy()[:, 1:][mask[:, 1:]])
    np.testing.assert_array_equal(torch.cat([p.sequence for p in parts]), np.nonzero(mask)[0])
    ones = [part.per_sequence(torch.ones(1, len(part.targets)))[0] for part in parts]
    np.testing.assert_array_equal(torch.cat(ones), mask[:, 1:].sum(1))
