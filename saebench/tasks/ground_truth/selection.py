"""Which feature a latent stands for, by the direction that it writes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from saebench.stats.matching import best_matches, one_to_one


@dataclass(frozen=True)
class Alignment:
    """The features of latents.

    Attributes:
        closest: For each latent the feature whose direction is most similar, whatever its sign; -1 for a latent that
            writes nothing.
        pairs: A latent and a feature in each row, ``[pairs, 2]``: the one-to-one matching with the greatest total
            similarity, whatever the signs.
        cosines: The similarity of each pair of that matching, 0 or more. There is one for each latent or for each
            feature, whichever are fewer: latents that write nothing have 0.
        signed: The same for the matching with the greatest total of signed similarities.
        nearest: For each feature the greatest similarity with a latent, whatever its sign; 0 if no latent writes.
    """

    closest: NDArray[np.int64]
    pairs: NDArray[np.int64]
    cosines: NDArray[np.float64]
    signed: NDArray[np.float64]
    nearest: NDArray[np.float64]


def align(decoder: Float[Tensor, "latents d"], directions: Float[Tensor, "features d"]) -> Alignment:
    """Return the features of latents with these decoder rows (arXiv 2602.14687, 2505.20254)."""
    decoder = decoder.detach().float().cpu()
    best = best_matches(decoder, directions, absolute=True)
    absolute, signed = (one_to_one(decoder, directions, absolute=sign) for sign in (True, False))
    matched = np.flatnonzero(absolute.index >= 0)
    size = min(len(decoder), len(directions))
    return Alignment(
        closest=best.forward_index.numpy(),
        pairs=np.stack([matched, absolute.index[matched]], axis=1),
        cosines=_padded(absolute.similarity[absolute.index >= 0], size),
        signed=_padded(signed.similarity[signed.index >= 0], size),
        nearest=np.nan_to_num(best.backward.double().numpy(), nan=0.0),
    )


def _padded(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.concatenate([values, np.zeros(size - len(values))])
