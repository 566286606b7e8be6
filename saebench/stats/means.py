"""The difference in means: the direction from one group of activations to others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)  # eq=False, because comparing tensors does not give one bool
class DifferenceInMeans:
    """The mean of one group minus the mean of the others, and the point from which that direction starts."""

    direction: Float[Tensor, " d"]
    centre: Float[Tensor, " d"]  # the mean of the others

    @classmethod
    def between(cls, own: Float[Tensor, "rows d"], *others: Float[Tensor, "rows d"]) -> DifferenceInMeans:
        """Return the difference between ``own`` and the mean of the other groups, each of which weighs the same."""
        centre = torch.stack([rows.mean(0) for rows in others]).mean(0)
        return cls(own.mean(0) - centre, centre)
