from __future__ import annotations

import errno
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saebench.budget import Budget, format_bytes, memory_sentence, out_of_memory, parse_bytes
from saebench.errors import UsageError

UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@given(st.integers(0, 10**18 - 1))
def test_plain_bytes_are_themselves(n):
    assert parse_bytes(n) == parse_bytes(str(n)) == parse_bytes(f"{n}B") == n


@given(
    st.decimals(0, 10**6, places=6),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["", " ", "\t "]),
    st.sampled_from([str, str.lower, str.upper]),
)
def test_units(amount, unit, space, case):
    assert parse_bytes(case(f"{space}{amount}{space}{unit}{space}")) == int(Decimal(amount) * UNITS[unit])


@given(st.integers(0, 10**15))
def test_formatted_bytes_are_right_to_three_digits_and_readable(n):
    text = format_bytes(n)
    assert abs(parse_bytes(text) - n) <= 0.00501 * n
    assert "e" not in text
    assert len(text) <= len("9.99 GB")


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.5, "1 kB"),
        (1500, "1.5 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (20 * 10**9, "20 GB"),
        (10**12, "1 TB"),
        (3 * 10**15, "3000 TB"),
    ],
)
def test_formatted_bytes(n, text):
    assert format_bytes(n) == text


@pytest.mark.parametrize(
    "text",
    ["", " ", "GB", "-1", -1, "1 X", "1.5.2GB", "1e9", "1,5GB", "nan", "inf", "1 GBps", "٣GB", "0x10", "9" * 400, True],
)
def test_no_amount(text):
    with pytest.raises(UsageError, match=r"is not an amount of memory; write it like"):
        parse_bytes(text)


@given(st.text(max_size=12))
def test_any_text_is_an_amount_or_a_usage_error(text):
    try:
        n = parse_bytes(text)
    except UsageError:
        return
    assert n >= 0


@given(st.integers(0, 10**15))
def test_the_memory_is_dealt_out_and_no_more(memory):
    budget = Budget(memory=memory)
    assert budget.resident + budget.encoder + budget.passes <= memory


def refusal(allocate):
    try:
        allocate()
    except (RuntimeError, MemoryError) as error:
        return error
    raise AssertionError("so much memory was given")


GPU = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB of which 1 GiB is free."


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (refusal(lambda: torch.empty(10**15)), ": another 4000 TB could not be allocated"),
        (refusal(lambda: np.empty(2**50)), ": another 8.00 PiB could not be allocated"),
        (torch.OutOfMemoryError(GPU), ": another 20.00 GiB could not be allocated"),
        (MemoryError(), ""),
        (RuntimeError("std::bad_alloc"), ""),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), ""),
        (RuntimeError("unable to mmap 10 bytes from file <weights>: Cannot allocate memory (12)"), ""),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), ""),
    ],
)
def test_an_allocator_that_refuses_is_understood(error, amount):
    assert out_of_memory(error)
    assert memory_sentence(error).startswith(f"Out of memory{amount}. Give a smaller --batch-size or --memory-budget")


class Mute(RuntimeError):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    "error",
    [ValueError("out of memory"), RuntimeError("size mismatch"), OSError(errno.ENOSPC, "full"), Mute(), KeyError("x")],
)
def test_other_errors_are_not_taken_for_it(error):
    assert not out_of_memory(error)
