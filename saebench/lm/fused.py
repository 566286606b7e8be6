"""Elementwise work that a compiler fuses into one pass over the data on a GPU, where this is faster."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch


class Fused:
    """A function of tensors that is compiled at its first call on a GPU, and called as it is on a CPU.

    On a CPU the tiles stay in the cache, and the matrix product takes nearly all the time, so compiling gains nothing.
    If compilation fails, because there is no Triton or no C compiler, the plain function is used, and one warning says
    so.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *tensors: torch.Tensor) -> Any:
        if not self.pays(tensors[0]):
            return self._function(*tensors)
        if self._compiled is None:
            # dynamic=True, because the last chunk of tokens and the last tile of the vocabulary have other shapes.
            self._compiled = torch.compile(self._function, dynamic=True)
        try:
            return self._compiled(*tensors)
        except (torch.OutOfMemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # the compiler's back ends raise exceptions of any kind
            # The first line names the back end, and the second names the problem.
            reason = " ".join(str(error).splitlines()[:2])[:300]
            logging.getLogger(__name__).warning("A function could not be compiled, so this GPU is slower: %s", reason)
            self._compiled = self._function
            return self._function(*tensors)

    def pays(self, tensor: torch.Tensor) -> bool:
        """Return whether the function is compiled for this tensor."""
        return tensor.is_cuda
