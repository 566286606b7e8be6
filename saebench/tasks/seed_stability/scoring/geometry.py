"""The directions of each run compared with those of every other run, or with random dictionaries in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from os import cpu_count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from saebench.sae.protocol import SAE, Capability
from saebench.stats.matching import Matching, best_matches, centred, one_to_one
from saebench.stats.nulls import covariance_matched, isotropic
from saebench.stats.rng import NO_CONTENT
from saebench.stats.runs import Pair
from saebench.tasks.seed_stability.scoring.firing import FiringTotals
from saebench.tasks.seed_stability.settings import SeedStabilitySettings

_SAME = 1e-5  # how far the cosine of equal directions may be from 1, which rounding explains
_MATCHED_IN_PARALLEL = 4096  # latents up to which several pairs of runs are matched at the same time


class Rng(Protocol):
    """Gives a random generator for each purpose and content, as ``TaskContext.rng`` does."""

    def __call__(self, purpose: str, content: str, *numbers: int | float) -> np.random.Generator: ...


NULLS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "isotropic": isotropic,
    "covariance": covariance_matched,
}


@dataclass(frozen=True)
class ComparedLatents:
    """Those latents of one SAE that are compared, and their directions."""

    numbers: NDArray[np.int64]  # [n] which latents of the SAE they are
    d_sae: int
    decoder: Tensor  # [n, d_out]
    encoder: Tensor | None  # [n, d_in]; None for an SAE without encoder directions
    firing: FiringTotals  # [n]

    @classmethod
    def of(cls, sae: SAE, firing: FiringTotals) -> ComparedLatents:
        """All latents of ``sae``."""
        encoder = sae.encoder_directions().detach() if Capability.ENCODER_DIRECTIONS in sae.capabilities else None
        return cls(np.arange(sae.d_sae), sae.d_sae, sae.decoder_directions().detach().float(), encoder, firing)

    def where(self, keep: NDArray[np.bool_]) -> ComparedLatents:
        """The latents for which ``keep[d_sae]`` is true."""
        rows = np.flatnonzero(keep[self.numbers])
        encoder = None if self.encoder is None else self.encoder[rows]
        return ComparedLatents(self.numbers[rows], self.d_sae, self.decoder[rows], encoder, self.firing.at(rows))

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values ``[n]`` of the compared latents as ``[d_sae]``, with NaN for all other latents."""
        out = np.full(self.d_sae, np.nan)
        out[self.numbers] = values
        return out


@dataclass(frozen=True)
class SideComparison:
    """How the decoders, or the encoders, of all pairs (a, b) of runs compare.

    ``best`` and ``best_index`` hold every ordered pair, ``matched`` the pairs with a < b whose d_sae are equal.
    """

    best: dict[Pair, NDArray[np.float64]]  # [n_a] cosine with the most similar row of b
    best_index: dict[Pair, NDArray[np.int64]]  # [n_a] which row of b that is; -1 where there is none
    matched: dict[Pair, Matching]  # one-to-one


@dataclass(frozen=True)
class GroupComparison:
    """How all pairs of runs compare; ``encoder`` is None unless every run has encoder directions."""

    decoder: SideComparison
    encoder: SideComparison | None

    def shared(self, pair: Pair, above: float) -> NDArray[np.bool_] | None:
        """Which latents of the first run are shared with the second (2501.16615).

        The one-to-one matchings of decoders and of encoders give a shared latent the same partner, and both cosines
        exceed ``above``. None without encoders, and for runs of unequal width.
        """
        if self.encoder is None or pair not in self.decoder.matched:
            return None
        decoder, encoder = self.decoder.matched[pair], self.encoder.matched[pair]
        agree = (decoder.index == encoder.index) & (decoder.index >= 0)
        return agree & (decoder.similarity > above) & (encoder.similarity > above)


def compare(
    runs: Sequence[ComparedLatents], others: Sequence[ComparedLatents], settings: SeedStabilitySettings
) -> GroupComparison:
    """Compare each of ``runs`` with all of ``others`` but the one at its own place.

    Args:
        runs: The latents of each run.
        others: The same object as ``runs``, or one random dictionary for each run.
        settings: ``absolute``, ``centred`` and ``exact_matching_limit`` say how directions are compared.
    """
    encoders = [(run.encoder, other.encoder) for run, other in zip(runs, others, strict=True)]
    a, b = [own for own, _ in encoders if own is not None], [other for _, other in encoders if other is not None]
    return GroupComparison(
        _compare_side(runs, others, [run.decoder for run in runs], [other.decoder for other in others], settings),
        _compare_side(runs, others, a, b, settings) if len(a) == len(b) == len(runs) else None,
    )


def same_dictionaries(side: SideComparison) -> Pair | None:
    """Return the first pair of runs that have the same directions, in whatever order and at whatever scale, if any.

    Every direction of each of the two has its like in the other one. Latents without a direction do not count.
    """
    for (a, b), best in sorted(side.best.items()):
        there, back = (cosines[~np.isnan(cosines)] for cosines in (best, side.best[b, a]))
        if len(there) and len(back) and min(there.min(), back.min()) >= 1 - _SAME:
            return a, b
    return None


def stand_ins(runs: Sequence[ComparedLatents], null: str, rng: Rng, purpose: str) -> list[ComparedLatents]:
    """A random dictionary for each run, as large as it; encoder and decoder are independent.

    All runs, of all groups, take the same normal numbers, each to its own mean and covariance. So the null does not
    depend on the order of latents or on their units, and groups are compared by the same draw.

    Args:
        runs: The latents of each run.
        null: A kind in `NULLS`.
        rng: Gives the random generators.
        purpose: What the dictionaries are for.
    """
    drawn = []
    for run in runs:
        decoder = _random(null, run.decoder, rng(f"{purpose}:{null}:decoder", NO_CONTENT))
        encoder = (
            None if run.encoder is None else _random(null, run.encoder, rng(f"{purpose}:{null}:encoder", NO_CONTENT))
        )
        drawn.append(replace(run, decoder=decoder, encoder=encoder))
    return drawn


def _compare_side(
    runs: Sequence[ComparedLatents],
    others: Sequence[ComparedLatents],
    a: Sequence[Tensor],
    b: Sequence[Tensor],
    settings: SeedStabilitySettings,
) -> SideComparison:
    absolute, exact = settings.absolute, settings.exact_matching_limit
    if settings.centred:
        a, b = [centred(rows) for rows in a], [centred(rows) for rows in b]
    side = SideComparison({}, {}, {})
    pairs = [(i, j) for i, j in combinations(range(len(runs)), 2) if runs[i].d_sae == others[j].d_sae]
    largest = max((max(len(a[i]), len(b[j])) for i, j in pairs), default=0)
    # A matching takes one core and releases the interpreter's lock, but its costs are too large to hold many at once.
    with ThreadPoolExecutor(cpu_count() or 1 if largest <= _MATCHED_IN_PARALLEL else 1) as pool:
        matchings = pool.map(lambda pair: one_to_one(a[pair[0]], b[pair[1]], absolute=absolute, exact=exact), pairs)
        side.matched.update(zip(pairs, matchings, strict=True))
    for i, j in permutations(range(len(runs)), 2):
        if (i, j) in side.best:
            continue
        matches = best_matches(a[i], b[j], absolute=absolute)
        side.best[i, j], side.best_index[i, j] = _numpy(matches.forward), matches.forward_index.cpu().numpy()
        if runs is others:
            side.best[j, i], side.best_index[j, i] = _numpy(matches.backward), matches.backward_index.cpu().numpy()
    return side


def _random(null: str, rows: Tensor, rng: np.random.Generator) -> Tensor:
    """Random rows like ``rows`` at length one, so that long rows do not decide what the random ones look like."""
    return NULLS[null](rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-30), rng)


def _numpy(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()
