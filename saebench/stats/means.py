"""The difference in means: the direction from one group of activations to others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth
class DifferenceInMeans:
    """The mean of one group minus that of the others, and the point that it starts from."""

    direction: Float[Tensor, " d"]
    centre: Float[Tensor, " d"]  # the mean of the others

    @classmethod
    def between(cls, own: Float[Tensor, "rows d"], *others: Float[Tensor, "rows d"]) -> DifferenceInMeans:
        """The difference between the rows of ``own`` and those of the other groups, of which each counts the same."""
        centre = torch.stack([rows.mean(0) for rows in others]).mean(0)
        return cls(own.mean(0) - centre, centre)
