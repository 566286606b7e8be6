"""Random dictionaries, which show what a comparison of two dictionaries gives by chance."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def isotropic(like: Float[Tensor, "n d"], rng: np.random.Generator) -> Float[Tensor, "n d"]:
    """Return independent standard normal rows of the shape of ``like``: directions without any preference."""
    return torch.from_numpy(rng.standard_normal(tuple(like.shape), dtype=np.float32)).to(like.device)


def covariance_matched(rows: Float[Tensor, "n d"], rng: np.random.Generator) -> Float[Tensor, "n d"]:
    """Return as many normal rows with the mean and covariance of ``rows``: they share its subspace but no direction.

    The order of ``rows`` does not matter.
    """
    exact = rows.double()
    mean = exact.mean(0)
    deviations = exact - mean
    values, vectors = torch.linalg.eigh(deviations.T @ deviations / max(len(exact) - 1, 1))
    # The symmetric root, because eigenvectors turn where their values are nearly equal.
    root = ((vectors * values.clamp(min=0).sqrt()) @ vectors.T).float()
    return isotropic(rows, rng) @ root + mean.float()
