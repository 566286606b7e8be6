"""Running out of memory halves the batch; every row is done once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import SaebenchError
from saebench.lm.batching import for_batches

OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@given(n=st.integers(0, 60), batch=st.integers(1, 40), fits=st.integers(1, 40))
def test_every_row_once_and_in_order(n: int, batch: int, fits: int):
    done: list[int] = []

    def work(rows: slice) -> None:
        if rows.stop - rows.start > fits:
            raise MemoryError
        done.extend(range(rows.start, rows.stop))

    last = for_batches(slice(0, n), batch, work)
    assert done == list(range(n))
    assert 1 <= last <= batch
    assert last <= max(fits, 1) or n <= fits  # the size that worked is handed on


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:30] or "MemoryError")
def test_each_kind_of_out_of_memory_halves(error: Exception):
    sizes: list[int] = []

    def work(rows: slice) -> None:
        sizes.append(rows.stop - rows.start)
        if sizes[-1] > 2:
            raise error

    assert for_batches(slice(0, 8), 8, work) == 2
    assert sizes == [8, 4, 2, 2, 2, 2]


def test_one_row_that_does_not_fit_says_what_to_do():
    def work(rows: slice) -> None:
        raise MemoryError("cause")

    with pytest.raises(SaebenchError, match="smaller context length") as caught:
        for_batches(slice(0, 4), 4, work)
    assert isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_pass_through_at_once(error: Exception):
    calls = []

    def work(rows: slice) -> None:
        calls.append(rows)
        raise error

    with pytest.raises(type(error)) as caught:
        for_batches(slice(0, 8), 8, work)
    assert caught.value is error
    assert len(calls) == 1
