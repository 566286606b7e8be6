"""Batches that fit into memory: their size is estimated in advance, and halved when memory runs out nevertheless."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saebench.budget import out_of_memory
from saebench.errors import SaebenchError

if TYPE_CHECKING:
    from saebench.lm.model import LanguageModel

# The most tokens of a batch. On a CPU more tokens make nothing faster (measured); a GPU needs many to be busy.
_TOKENS = {"cpu": 2048, "cuda": 16384}


def for_batches(rows: slice, batch_size: int, work: Callable[[slice], None]) -> int:
    """Call ``work`` for consecutive batches of ``rows``. If memory runs out, halve the batch and repeat it.

    Args:
        rows: The rows to work on.
        batch_size: The number of rows of a batch to begin with.
        work: Works on a batch. It must be repeatable for a batch that failed, so it may keep results only at its end.

    Returns:
        The batch size that worked last.

    Raises:
        SaebenchError: A single row does not fit.
    """
    start = rows.start
    while start < rows.stop:
        try:
            work(slice(start, min(start + batch_size, rows.stop)))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
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
    """Return the number of sequences for which a pass needs at most about ``memory`` bytes, a power of two.

    It is estimated from the shape of the model. If the estimate is too high, `for_batches` halves it.
    """
    config = lm.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", 1))
    hidden = int(getattr(config, "intermediate_size", None) or 4 * lm.d_model)
    # Counted are the residual stream, norms, queries, keys and values; the MLP's gate, up and product; and the
    # attention scores, their softmax in float32 and its copy in the model's dtype.
    scores = heads * context_length * (8 + 2 * lm.dtype.itemsize)
    per_token = lm.dtype.itemsize * (12 * lm.d_model + 4 * hidden) + scores
    tokens = min(_TOKENS.get(lm.device.type, _TOKENS["cpu"]), memory // per_token)
    return 1 << max(0, (tokens // context_length).bit_length() - 1)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``. A copy to a GPU goes through pinned memory and is not waited for."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def host_buffer(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an empty tensor on the CPU that ``device`` can copy into without waiting."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
