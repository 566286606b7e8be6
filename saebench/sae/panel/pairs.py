"""Which features share a latent in the members of the panels that merge features."""

from __future__ import annotations

import math

from jaxtyping import Int
from torch import Tensor


def in_pairs(order: Int[Tensor, " features"], share: float) -> tuple[Int[Tensor, "pairs 2"], Int[Tensor, " alone"]]:
    """Return the features that are merged, two by two, and those that stay alone.

    Args:
        order: The features in random order.
        share: The share of features to merge. Of an odd number, one stays alone.
    """
    merged = 2 * math.floor(share * len(order) / 2)
    return order[:merged].reshape(-1, 2), order[merged:]
