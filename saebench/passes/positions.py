"""Where the evaluated tokens and the predictions of some sequences lie, as indices.

An *evaluated* token is one that is not special. Only evaluated tokens are spliced; every other position keeps its
original activation. A *prediction* is a position whose next token is evaluated. Cross-entropy and KL are averages over
predictions.
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

    They are computed on the CPU, because a boolean mask on a GPU would make the CPU wait for it.
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
        """A copy of the rows at evaluated tokens."""
        return x.flatten(0, 1).index_select(0, self.evaluated)

    def at_predictions(self, x: Float[Tensor, "batch position d"]) -> Float[Tensor, "predictions d"]:
        """A copy of the rows from which an evaluated token is predicted."""
        return x.flatten(0, 1).index_select(0, self.predicting)

    def with_evaluated(
        self, x: Float[Tensor, "batch position d"], values: Float[Tensor, "tokens d"]
    ) -> Float[Tensor, "batch position d"]:
        """A copy of ``x`` that has ``values`` at the evaluated tokens."""
        return x.flatten(0, 1).index_copy(0, self.evaluated, values).view_as(x)

    def per_sequence(self, values: Float[Tensor, "kinds predictions"]) -> Float[Tensor, "kinds batch"]:
        """The sum over each sequence's predictions, in float64, always added in the same order."""
        grid = torch.zeros(len(values), self.tokens.numel(), dtype=torch.float64, device=values.device)
        grid.index_copy_(1, self.predicting, values.double())
        return grid.view(len(values), *self.tokens.shape).sum(-1)
