"""Elementwise work that a compiler fuses into one pass over the data, where it pays: on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch


class Fused:
    """``function`` of tensors, compiled at its first call on a GPU; the plain function on a CPU.

    On a CPU the tiles stay in the cache and the matrix product takes nearly all the time, so compiling gains nothing.
    Where compilation fails (no Triton, no C compiler) the plain function stands in, and a warning says so once.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *tensors: torch.Tensor) -> Any:
        if not self.pays(tensors[0]):
            return self._function(*tensors)
        if self._compiled is None:
            # Shapes vary with the last chunk of tokens and the last tile of the vocabulary.
            self._compiled = torch.compile(self._function, dynamic=True)
        try:
            return self._compiled(*tensors)
        except (torch.OutOfMemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # the compiler's back ends raise anything
            # The first line names the back end, the second what it met.
            reason = " ".join(str(error).splitlines()[:2])[:300]
            logging.getLogger(__name__).warning("not compiled, so slower on this GPU: %s", reason)
            self._compiled = self._function
            return self._function(*tensors)

    def pays(self, tensor: torch.Tensor) -> bool:
        """Whether the function is compiled for this tensor."""
        return tensor.is_cuda
