"""Where the evaluated tokens and the predictions of some sequences lie, as indices.

Conventions (definitions.md 0.3): *evaluated* tokens are those that are not special; they alone are spliced, at
every other position the original activation stays. A *prediction* is a position whose next token is evaluated;
cross-entropy and KL are over predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.data.tokens import TokenBatch
from saebench.lm.batching import to_device


@dataclass(frozen=True)
class Positions:
    """Indices into the flattened ``[batch * position]`` of the sequences ``rows``, on the model's device.

    Found on the CPU: a boolean mask on a GPU would make the CPU wait for it.
    """

    rows: slice
    tokens: Int[Tensor, "batch position"]
    evaluated: Int[Tensor, " tokens"]
    sequence: Int[Tensor, " tokens"]  # row of each evaluated token, on the CPU
    predicting: Int[Tensor, " predictions"]
    targets: Int[Tensor, " predictions"]

    @classmethod
    def of(cls, batch: TokenBatch, rows: slice, device: torch.device) -> Positions:
        tokens, mask = batch.tokens[rows], batch.evaluated[rows]
        length = tokens.shape[1]
        evaluated = mask.flatten().nonzero()[:, 0]
        row, column = mask[:, 1:].nonzero().unbind(1)
        return cls(
            rows,
            to_device(tokens, device),
            to_device(evaluated, device),
            evaluated // length + rows.start,
            to_device(row * length + column, device),
            to_device(tokens[row, column + 1], device),
        )

    def at_evaluated(self, x: Float[Tensor, "batch position d"]) -> Float[Tensor, "tokens d"]:
        """A copy of the rows of evaluated tokens."""
        return x.flatten(0, 1).index_select(0, self.evaluated)

    def at_predictions(self, x: Float[Tensor, "batch position d"]) -> Float[Tensor, "predictions d"]:
        """A copy of the rows that predict an evaluated token."""
        return x.flatten(0, 1).index_select(0, self.predicting)

    def with_evaluated(
        self, x: Float[Tensor, "batch position d"], values: Float[Tensor, "tokens d"]
    ) -> Float[Tensor, "batch position d"]:
        """A copy of ``x`` with ``values`` at evaluated tokens."""
        return x.flatten(0, 1).index_copy(0, self.evaluated, values).view_as(x)

    def per_sequence(self, values: Float[Tensor, "kinds predictions"]) -> Float[Tensor, "kinds batch"]:
        """Sums over the predictions of each sequence, in float64, in an order that never varies."""
        grid = torch.zeros(len(values), self.tokens.numel(), dtype=torch.float64, device=values.device)
        grid.index_copy_(1, self.predicting, values.double())
        return grid.view(len(values), *self.tokens.shape).sum(-1)
