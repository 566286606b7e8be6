"""Stand-ins for the blocks of a language model that a pass skips."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class HandOver(nn.Module):
    """Stands in for a block that is skipped. The first one injects the cached residual stream."""

    def __init__(self, block: nn.Module, residual: Tensor | None, as_tuple: bool) -> None:
        super().__init__()
        object.__setattr__(self, "_block", block)  # not as a submodule, because the block must keep its own parent
        self.residual = residual
        self.as_tuple = as_tuple

    def __getattr__(self, name: str) -> Any:
        # Models read attributes of their blocks, such as attention_type and is_sliding, between calls.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_block"], name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        out = hidden_states if self.residual is None else self.residual
        return (out,) if self.as_tuple else out
