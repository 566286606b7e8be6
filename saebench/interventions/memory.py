"""The memory of an intervention: a statistic over the tokens of each row that it has read."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import SaebenchError, UsageError

# "running": the statistic at a token is over the tokens up to it, so that generation and scoring see the same.
# "whole": it is over the whole text at each token, so that later tokens affect earlier ones.
Scope = Literal["running", "whole"]
SCOPES: tuple[Scope, ...] = ("running", "whole")


class Running:
    """A sum or maximum over the tokens of each row, which goes on from call to call until ``reset``.

    It is computed in float64, so that the result does not depend on how a text is divided into calls.
    """

    def __init__(self, kind: Literal["sum", "max"], scope: Scope) -> None:
        """Begin without any tokens. Raises UsageError if the scope is unknown."""
        if scope not in SCOPES:
            raise UsageError(f"scope must be one of {', '.join(SCOPES)}, not {scope!r}.")
        self.kind, self.scope = kind, scope
        self._carried: Tensor | None = None  # [batch, n]

    def reset(self) -> None:
        """Forget all tokens."""
        self._carried = None

    def __call__(self, values: Float[Tensor, "batch position n"]) -> Float[Tensor, "batch position n"]:
        """Return the statistic at each token.

        Args:
            values: The values of the new tokens. A token that does not count must hold the neutral element: 0 for a
                sum, -inf for a maximum.

        Raises:
            SaebenchError: There is another number of rows than in the call before.
        """
        if values.shape[1] == 0:
            return values
        values = values.double()
        running = values.cumsum(1) if self.kind == "sum" else values.cummax(1).values
        if self._carried is not None:
            if len(self._carried) != len(values):
                raise SaebenchError(
                    f"An intervention remembers {len(self._carried)} texts but was given {len(values)}; "
                    "call reset() before new ones."
                )
            before = self._carried[:, None]
            running = running + before if self.kind == "sum" else torch.maximum(running, before)
        self._carried = running[:, -1]
        return self._carried[:, None].expand_as(running) if self.scope == "whole" else running
