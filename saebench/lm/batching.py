"""Batches that fit: when memory runs out, the batch halves and the work goes on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from saebench.errors import SaebenchError


def for_batches(n: int, batch_size: int, work: Callable[[slice], None]) -> int:
    """Call ``work(rows)`` over ``n`` rows in order; on running out of memory halve the batch and repeat it.

    ``work`` must be repeatable for a batch that failed: it may only keep its results at its end.
    Returns the batch size that worked last. Raises SaebenchError when a single row does not fit.
    """
    start = 0
    while start < n:
        try:
            work(slice(start, min(start + batch_size, n)))
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if batch_size == 1:
                raise SaebenchError(
                    "Out of memory with a batch of one sequence; use a smaller context length, a smaller model, "
                    "or --dtype bfloat16."
                ) from error
            batch_size = max(1, batch_size // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start += batch_size
    return batch_size


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("can't allocate memory", "out of memory", "not enough memory", "alloc_failed"))
