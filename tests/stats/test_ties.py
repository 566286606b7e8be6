"""The numbers of latents decide nothing: what is chosen and drawn follows latents when they change places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saebench.stats.probes.selection import Ranking, rank_latents
from saebench.stats.selection import frequency_matched, sparsity_ratio
from saebench.stats.strata import matched_groups
from saebench.tasks.concept_separability.scoring.averages import best_share

N, LATENTS = 30, 40
PLACES = np.random.default_rng(1).permutation(LATENTS)  # new latent i is the old latent PLACES[i]


def rare_latents() -> torch.Tensor:
    """Most latents fire on one or two examples, so that many tie."""
    rng = np.random.default_rng(0)
    z = np.zeros((N, LATENTS))
    for latent in range(LATENTS):
        z[rng.choice(N, 1 + latent % 2, replace=False), latent] = rng.uniform(0.5, 2)
    return torch.from_numpy(z).float()


@pytest.mark.parametrize("ranking", ["mean_difference", "normalised"])
@pytest.mark.parametrize("sparse", [False, True])
def test_ranked_latents(ranking: Ranking, sparse: bool) -> None:
    z, y, rows = rare_latents(), torch.arange(N) % 2 == 0, torch.arange(N) < 26

    def ranked(z: torch.Tensor) -> np.ndarray:
        parts = (z, None)
        if sparse:
            parts = z.topk(LATENTS, dim=-1)
        return rank_latents(*parts, y, rows, LATENTS, 12, ranking).numpy()

    own = ranked(z)
    assert np.array_equal(PLACES[ranked(z[:, PLACES])], own)
    factors = torch.rand(LATENTS, generator=torch.Generator().manual_seed(0)) * 9 + 0.1
    if ranking == "normalised":
        assert np.array_equal(ranked(z * factors / 3), own)


def test_selected_and_drawn_latents() -> None:
    rng = np.random.default_rng(0)
    rate, ties = rng.integers(1, 4, LATENTS) / 10, rng.random(LATENTS)
    own = sparsity_ratio(rate, np.zeros(LATENTS), retain_threshold=0.5, n=7, ties=ties)
    moved = sparsity_ratio(rate[PLACES], np.zeros(LATENTS), retain_threshold=0.5, n=7, ties=ties[PLACES])
    assert np.array_equal(PLACES[moved], own)
    drawn = frequency_matched(rate, own, np.random.default_rng(2), ties=ties)
    again = frequency_matched(rate[PLACES], moved, np.random.default_rng(2), ties=ties[PLACES])
    assert np.array_equal(PLACES[again], drawn)


def test_matched_groups() -> None:
    rng = np.random.default_rng(0)
    group, strata, key = rng.random(LATENTS) < 0.3, rng.integers(0, 3, LATENTS), rng.random(LATENTS)
    own = matched_groups(group, strata, 5, np.random.default_rng(2), key=key)
    moved = matched_groups(group[PLACES], strata[PLACES], 5, np.random.default_rng(2), key=key[PLACES])
    assert np.array_equal(moved, own[:, PLACES])


def test_latents_that_tie_for_the_last_places_share_them() -> None:
    scores = torch.tensor([[0.5], [0.2], [0.2], [0.2 + 1e-13], [0.1]], dtype=torch.float64)
    torch.testing.assert_close(best_share(scores, 2)[:, 0], torch.tensor([3, 1, 1, 1, 0], dtype=torch.float64) / 6)
    torch.testing.assert_close(best_share(scores, 1)[:, 0], torch.tensor([1, 0, 0, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(best_share(scores, 9)[:, 0], torch.full((5,), 0.2, dtype=torch.float64))
