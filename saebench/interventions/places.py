"""The tokens that an intervention may change, as indices."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """Indices of tokens in the flattened ``[batch * position]``, and the mask that they come from."""

    mask: Bool[Tensor, "batch position"]
    index: Int[Tensor, " tokens"]

    @classmethod
    def of(cls, mask: Bool[Tensor, "batch position"]) -> Places:
        """Return the places where ``mask`` is True."""
        return cls(mask, mask.flatten().nonzero()[:, 0])

    def at(self, grid: Float[Tensor, "batch position n"]) -> Float[Tensor, "tokens n"]:
        """Return a copy of the rows of ``grid`` at these places."""
        return grid.flatten(0, 1).index_select(0, self.index)

    def put(
        self, grid: Float[Tensor, "batch position n"], values: Float[Tensor, "tokens n"]
    ) -> Float[Tensor, "batch position n"]:
        """Return a copy of ``grid`` with ``values`` at these places."""
        return grid.flatten(0, 1).index_copy(0, self.index, values).view_as(grid)

    def grid(self, values: Float[Tensor, "tokens n"]) -> Float[Tensor, "batch position n"]:
        """Return a grid with ``values`` at these places and zeros elsewhere."""
        return self.put(values.new_zeros(*self.mask.shape, values.shape[-1]), values)
