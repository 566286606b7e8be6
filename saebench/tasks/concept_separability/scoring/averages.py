"""Averages of the divergences of an SAE's latents on one concept set, and the same with each group left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import false_discovery_control
from torch import Tensor

from saebench.stats.divergence import Divergences
from saebench.stats.histogram import PER_BIN, Activations
from saebench.tasks.concept_separability.data import GROUPS, ConceptSet
from saebench.tasks.concept_separability.scoring.estimators import Estimator

TOP = (1, 10, 100)  # how many of the best latents of each concept are averaged
FDR = 0.05  # the false discovery rate at which a latent is significant
KEYS = ("mean", "mass_weighted", "pairwise", "one_vs_rest", *(f"top{k}" for k in TOP))
_DECIMALS = 9  # scores that are equal to so many decimals differ by rounding
BY_CONCEPT = ("one_vs_rest", "top10")  # averages that each concept has as well


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class SetScores:
    """Averages of divergences with chance removed, as shares of their maximum; NaN when no latent is alive."""

    value: dict[str, float]  # by one of KEYS, or by "key/concept" for a key of BY_CONCEPT
    left_out: dict[str, NDArray[np.float64]]  # the same without each of the groups, [2 * GROUPS]
    joint: NDArray[np.float32]  # the joint divergence of each latent, NaN for dead ones
    p_values: NDArray[np.float32]  # NaN for latents that are not tested
    n_alive: int
    n_rare: int  # alive, but active on fewer than PER_BIN examples
    n_significant: int


def set_scores(
    activations: Activations, concepts: ConceptSet, make: Callable[[Activations], Estimator], block: int
) -> SetScores:
    """Score the latents of one SAE on one concept set.

    The latents that are compared with a concept are chosen on one half of the examples and scored on the other, both
    ways. Which latents are chosen, and which are alive, stays the same when a group is left out. Latents that are
    active on fewer than PER_BIN examples are not tested; this does not depend on the labels.

    Args:
        activations: The pooled latents on the examples.
        concepts: The examples.
        make: Makes the estimator for the activations of a block of latents.
        block: How many latents a block has.
    """
    active = activations.active
    alive = active > 0
    n_alive = int(alive.sum())
    joint = np.full(activations.n_latents, np.nan, np.float32)
    p_values = joint.copy()
    names = _names(concepts)
    if n_alive == 0:
        nothing = {name: np.full(2 * GROUPS, np.nan) for name in names}
        return SetScores(dict.fromkeys(names, np.nan), nothing, joint, p_values, 0, 0, 0)
    living = activations.of_latents(alive)
    blocks = [slice(start, min(start + block, n_alive)) for start in range(0, n_alive, block)]
    latest: list[tuple[slice, Estimator]] = []  # the estimator of one block at a time: it is large

    def estimator(rows: slice) -> Estimator:
        if not latest or latest[0][0] != rows:
            latest[:] = [(rows, make(living if len(blocks) == 1 else living.latents(rows)))]
        return latest[0][1]

    by_block = [[estimator(rows).scores(half) for half in (None, 0, 1)] for rows in blocks]
    everything, *halves = (
        Divergences(*(torch.cat(parts) for parts in zip(*scores, strict=True)))
        for scores in zip(*by_block, strict=True)
    )
    weights = _Weights(living.mass, [half.rest for half in halves])
    value = weights.total(everything, halves)

    # The averages are linear in the scores, so those of the blocks add up.
    left_out = torch.zeros(2 * GROUPS, len(value), dtype=torch.float64, device=value.device)
    tested = (active[alive] >= PER_BIN).cpu().numpy()
    p = []
    for rows in blocks:
        scorer = estimator(rows)
        for group in range(2 * GROUPS):
            half = group // GROUPS
            left_out[group] += weights.overall(scorer.scores(None, group), rows)
            left_out[group] += weights.of_half(scorer.scores(half, group).rest, half, rows)
            left_out[group] += weights.of_half(halves[1 - half].rest[rows], 1 - half, rows)
        p.append(scorer.p_values().cpu().numpy())
    where = np.flatnonzero(alive.cpu().numpy())
    joint[where] = everything.joint.cpu().numpy()
    p_tested = np.concatenate(p)[tested]
    p_values[where[tested]] = p_tested
    n_significant = int((false_discovery_control(p_tested) <= FDR).sum()) if len(p_tested) else 0
    return SetScores(
        dict(zip(names, value.tolist(), strict=True)),
        dict(zip(names, left_out.cpu().numpy().T, strict=True)),
        joint,
        p_values,
        n_alive,
        n_alive - int(tested.sum()),
        n_significant,
    )


def _names(concepts: ConceptSet) -> list[str]:
    return [*KEYS, *(f"{key}/{concept}" for key in BY_CONCEPT for concept in concepts.concepts)]


def best_share(scores: Float[Tensor, "latents classes"], k: int) -> Float[Tensor, "latents classes"]:
    """Return the weights of the ``k`` best latents of each class, or of all if there are fewer; they sum to 1.

    Latents that tie for the last places share them equally, so the order of the latents does not matter.
    """
    k = min(k, len(scores))
    rounded = scores.round(decimals=_DECIMALS)
    last = rounded.topk(k, dim=0).values[-1]
    above, tied = (rounded > last).to(scores.dtype), (rounded == last).to(scores.dtype)
    return (above + tied * ((k - above.sum(0)) / tied.sum(0))) / k


class _Weights:
    """The weights of the latents in every average, all averages in the order of `_names`."""

    def __init__(self, mass: Tensor, rest: list[Tensor]) -> None:
        """``mass[latents]``; ``rest`` holds the scores against the rest on each half, ``[latents, classes]``."""
        n, n_classes = rest[0].shape
        self.n, self.n_classes = n, n_classes
        self.joint = torch.stack([torch.full_like(mass, 1 / n), mass / mass.sum()])
        self.halves = [self._chosen(scores) for scores in reversed(rest)]  # each half is scored by the other's choice

    def _chosen(self, rest: Tensor) -> Tensor:
        """``[1 + len(TOP), latents, classes]``: each latent's best class, then the best latents of each class."""
        weights = rest.new_zeros(1 + len(TOP), *rest.shape)
        best = rest.argmax(1, keepdim=True)
        weights[0].scatter_(1, best, 1 / self.n)
        for number, k in enumerate(TOP, start=1):
            weights[number] = best_share(rest, k)
        return weights / 2

    def overall(self, scores: Divergences, rows: slice) -> Tensor:
        """The part of the averages that uses all examples, of the latents ``rows``."""
        joint = self.joint[:, rows] @ scores.joint
        out = joint.new_zeros(len(KEYS) + len(BY_CONCEPT) * self.n_classes)
        out[:2] = joint
        out[2] = scores.pair.sum() / self.n
        out[len(KEYS) : len(KEYS) + self.n_classes] = scores.rest.sum(0) / self.n
        return out

    def of_half(self, rest: Tensor, half: int, rows: slice) -> Tensor:
        """The part of the averages that is scored on one half, of the latents ``rows``."""
        sums = torch.einsum("mlc,lc->mc", self.halves[half][:, rows], rest)
        out = sums.new_zeros(len(KEYS) + len(BY_CONCEPT) * self.n_classes)
        out[3] = sums[0].sum()
        out[4 : len(KEYS)] = sums[1:].mean(1)
        out[len(KEYS) + self.n_classes :] = sums[1 + TOP.index(10)]
        return out

    def total(self, everything: Divergences, halves: list[Divergences]) -> Tensor:
        """The averages of all latents."""
        rows = slice(0, self.n)
        parts = [self.of_half(scores.rest, half, rows) for half, scores in enumerate(halves)]
        return self.overall(everything, rows) + parts[0] + parts[1]
