"""Batches that fit: a size picked in advance, and when memory runs out all the same, halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saebench.errors import SaebenchError

if TYPE_CHECKING:
    from saebench.lm.model import LanguageModel

# More tokens at a time make nothing faster (measured on CPU), or leave a GPU idle in nothing but launches.
_TOKENS = {"cpu": 2048, "cuda": 16384}


def for_batches(rows: slice, batch_size: int, work: Callable[[slice], None]) -> int:
    """Call ``work(batch)`` over ``rows`` in order; on running out of memory halve the batch and repeat it.

    ``work`` must be repeatable for a batch that failed: it may only keep its results at its end.
    Returns the batch size that worked last. Raises SaebenchError when a single row does not fit.
    """
    start = rows.start
    while start < rows.stop:
        try:
            work(slice(start, min(start + batch_size, rows.stop)))
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


def pick_batch_size(lm: LanguageModel, context_length: int, memory: int) -> int:
    """Sequences at a time so that a pass takes about ``memory`` bytes at most: a power of two, at least 1.

    An estimate from the model's shape; what it misses, :func:`for_batches` mends.
    """
    config = lm.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", 1))
    hidden = int(getattr(config, "intermediate_size", None) or 4 * lm.d_model)
    # Residual stream, norms, queries, keys and values; the MLP's gate, up and product; attention scores, their
    # softmax in float32 and its copy in the model's type.
    scores = heads * context_length * (8 + 2 * lm.dtype.itemsize)
    per_token = lm.dtype.itemsize * (12 * lm.d_model + 4 * hidden) + scores
    tokens = min(_TOKENS.get(lm.device.type, _TOKENS["cpu"]), memory // per_token)
    return 1 << max(0, (tokens // context_length).bit_length() - 1)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; to a GPU through pinned memory, without waiting for the copy."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def host_buffer(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An empty tensor on the CPU that ``device`` can copy into without waiting."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("can't allocate memory", "out of memory", "not enough memory", "alloc_failed"))
