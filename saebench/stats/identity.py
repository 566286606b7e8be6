"""The tokens of the vocabulary on which a latent fires, and how concentrated it is on a few of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.stats import hypergeom
from torch import Tensor

_PENDING = 2**22  # the entries of blocks, 16 bytes each, that wait to be merged


class TokenCounts:
    """Counts, for each latent and each token of the vocabulary, the positions at which the latent is not zero."""

    def __init__(self, d_sae: int, vocabulary: int) -> None:
        """Begin with counts of 0 for ``d_sae`` latents and ``vocabulary`` tokens."""
        self.d_sae, self._vocabulary = d_sae, vocabulary
        self._keys = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self._new: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(
        self, codes: Float[Tensor, "positions d_sae"] | tuple[Tensor, Tensor], tokens: Int[Tensor, " positions"]
    ) -> None:
        """Add positions.

        Args:
            codes: The latents at each position: dense, or (values, indices) ``[positions, slots]`` whose unused slots
                are 0.
            tokens: The token at each position.
        """
        if isinstance(codes, tuple):
            position, slot = codes[0].nonzero(as_tuple=True)
            latent = codes[1][position, slot]
        else:
            position, latent = codes.nonzero(as_tuple=True)
        keys, counts = torch.unique(latent * self._vocabulary + tokens[position], return_counts=True)
        self._new.append((keys.cpu().numpy(), counts.cpu().numpy()))
        if sum(len(part) for part, _ in self._new) > _PENDING:
            self._merge()

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, *(part for part, _ in self._new)])
        counts = np.concatenate([self._counts, *(part for _, part in self._new)])
        self._keys, where = np.unique(keys, return_inverse=True)
        self._counts = np.zeros(len(self._keys), np.int64)
        np.add.at(self._counts, where, counts)
        self._new = []

    def concentration(self, firings: int) -> Concentration:
        """Return how concentrated each latent's firing tokens are, among ``firings`` of them."""
        self._merge()
        latent, counts = self._keys // self._vocabulary, self._counts
        totals = np.bincount(latent, counts, self.d_sae).astype(np.int64)
        largest = np.zeros(self.d_sae, np.int64)
        np.maximum.at(largest, latent, counts)
        scored = totals >= firings
        kept = scored[latent]
        terms = _rarefied_terms(totals[latent[kept]], counts[kept], firings)
        entropy = np.where(scored, np.bincount(latent[kept], terms, self.d_sae), np.nan)
        modal = np.where(scored, largest / np.maximum(totals, 1), np.nan)
        return Concentration(totals, entropy, modal)


@dataclass(frozen=True)
class Concentration:
    """How concentrated each latent is on few tokens, ``[d_sae]``.

    The entropy and the share are NaN for a latent that fires less often than the number of firings to compare at.
    """

    totals: NDArray[np.int64]  # the number of positions at which the latent fires
    entropy: NDArray[np.float64]  # of the tokens at a fixed number of firings, in nats: from 0 to log(number)
    modal_share: NDArray[np.float64]  # the share of the latent's most frequent token


def _rarefied_terms(totals: NDArray[np.int64], counts: NDArray[np.int64], firings: int) -> NDArray[np.float64]:
    """Return what each token adds, on average, to the plug-in entropy of ``firings`` of a latent's ``totals`` firings.

    The plug-in entropy of n draws is too low, and the more so the smaller n is, so rare latents would look
    concentrated. Its average over all subsamples of one size (rarefaction) has the same bias for every latent. It is
    computed exactly, because the number of times that a token is drawn is hypergeometric.
    """
    pairs, where = np.unique(np.stack([totals, counts]), axis=1, return_inverse=True)
    drawn = np.arange(1, firings + 1)[:, None]
    surprise = -(drawn / firings) * np.log(drawn / firings)
    expected = (hypergeom.pmf(drawn, pairs[0], pairs[1], firings) * surprise).sum(0)
    return np.asarray(expected[where.ravel()], np.float64)
