"""Largest cosines against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from saebench.stats.geometry import max_cosine_to_others, row_cosines


def brute_force(directions: Tensor) -> np.ndarray:
    """Pair by pair in float64, over rows that have a direction."""
    rows = directions.double().numpy()
    rows = rows / np.where(np.abs(rows).max(1, keepdims=True) > 0, np.abs(rows).max(1, keepdims=True), 1.0)
    norms = np.linalg.norm(rows, axis=1)
    out = np.full(len(rows), np.nan)
    for i in np.flatnonzero(norms):
        cosines = [rows[i] @ rows[j] / norms[i] / norms[j] for j in np.flatnonzero(norms) if j != i]
        out[i] = max(cosines, default=np.nan)
    return out


def random_rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block", [1, 2, 7, 36, 37, 38, 4096])
def test_blocks_equal_brute_force(block: int):
    rows = random_rows(37, 5)
    np.testing.assert_allclose(max_cosine_to_others(rows, block), brute_force(rows), atol=1e-6)


def test_by_hand():
    rows = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0], [-5.0, 0.0]])
    torch.testing.assert_close(max_cosine_to_others(rows), torch.tensor([0.6, 0.8, 0.8, 0.0]))


def test_signed_and_twins():
    torch.testing.assert_close(max_cosine_to_others(torch.tensor([[1.0, 2.0], [-2.0, -4.0]])), torch.tensor([-1.0, -1]))
    torch.testing.assert_close(max_cosine_to_others(torch.tensor([[1.0, 2.0], [2.0, 4.0]])), torch.tensor([1.0, 1.0]))


@pytest.mark.parametrize("block", [1, 2, 4096])
def test_a_zero_row_is_nan_and_nobodys_neighbour(block: int):
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    out = max_cosine_to_others(rows, block)
    assert torch.isnan(out[1])
    assert out[[0, 2]].tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("rows", [torch.zeros(3, 4), torch.ones(1, 4), torch.tensor([[0.0, 0], [1, 2]])])
def test_nothing_to_compare_with_is_nan(rows: Tensor):
    assert torch.isnan(max_cosine_to_others(rows)).all()


def test_no_rows():
    assert max_cosine_to_others(torch.empty(0, 4)).shape == (0,)


@pytest.mark.parametrize("length", [1e-30, 1e-20, 1e-6, 1e6, 1e20, 1e30])
def test_length_does_not_matter(length: float):
    rows = random_rows(9, 6)
    np.testing.assert_allclose(max_cosine_to_others(rows * length), brute_force(rows), atol=1e-6)
    np.testing.assert_allclose(row_cosines(rows * length, rows), np.ones(9), atol=1e-6)


def test_half_precision_rows():
    rows = 100 * random_rows(9, 600)  # the norm is near 2,450, its square beyond float16
    for dtype in (torch.float16, torch.bfloat16):
        np.testing.assert_allclose(max_cosine_to_others(rows.to(dtype)), brute_force(rows.to(dtype)), atol=1e-6)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-1e9, 1e9, width=32)))
def test_wild_rows(rows: np.ndarray):
    ours = max_cosine_to_others(torch.from_numpy(rows), block=2)
    np.testing.assert_allclose(ours, brute_force(torch.from_numpy(rows)), atol=2e-6)


def test_row_cosines_by_hand():
    a = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 2.0], [1.0, 0.0]])
    b = torch.tensor([[0.0, 3.0], [-2.0, -2.0], [1.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    expected = torch.tensor([0.0, -1.0, torch.nan, torch.nan, 0.6])
    torch.testing.assert_close(row_cosines(a, b), expected, equal_nan=True)


def test_inputs_are_not_written_to():
    rows = random_rows(5, 3)
    before = rows.clone()
    max_cosine_to_others(rows)
    row_cosines(rows, rows)
    assert torch.equal(rows, before)
