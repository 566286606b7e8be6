"""Which latents are stable and which are unstable, and the random groups that both are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from saebench.evaluation import SAEGroup
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.matching import centred
from saebench.stats.strata import frequency_strata, matched_groups
from saebench.tasks.seed_stability.scoring.firing import FiringTotals
from saebench.tasks.seed_stability.scoring.geometry import ComparedLatents, SideComparison
from saebench.tasks.seed_stability.settings import SeedStabilitySettings

Kind = Literal["stable", "unstable"]
KINDS: tuple[Kind, ...] = ("stable", "unstable")

# For each kind ``[1 + draws, d_sae]``: the member's latents of that kind, then the random groups that match them.
GroupsWithControls = dict[Kind, NDArray[np.bool_]]


@dataclass(frozen=True)
class MemberStability:
    """One SAE of a group and its latents. All arrays are ``[d_sae]``, in the order of its latents.

    A latent is *scored* when it is alive (fires on the evaluated text) and has a decoder direction. It is then stable,
    unstable or neither (mixed). All others are neither stable nor unstable; their similarity and probability are NaN.
    """

    sae: SAE
    fingerprint: str
    similarity: NDArray[np.float64]  # best cosine with an alive latent of another run, mean over the other runs
    probability: NDArray[np.float64]  # share of the other runs in which that cosine reaches the threshold
    stable: NDArray[np.bool_]
    unstable: NDArray[np.bool_]
    firing: FiringTotals

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which latents have a stability."""
        return ~np.isnan(self.probability)

    @property
    def strata(self) -> NDArray[np.int64]:
        """The frequency decile of each scored latent; -1 for the others."""
        return frequency_strata(self.firing.counts, self.scored)

    def group(self, kind: Kind) -> NDArray[np.bool_]:
        """Which latents are of that kind."""
        return self.stable if kind == "stable" else self.unstable


def probability(side: SideComparison, run: int, threshold: float) -> NDArray[np.float64]:
    """The share of the other runs in which each latent of ``run`` has a partner of cosine ``threshold`` or more.

    ``[n]``, with NaN for a latent without a direction.
    """
    best = _best(side, run)
    return np.where(np.isnan(best).any(0), np.nan, (best >= threshold).mean(0))


def similarity(side: SideComparison, run: int) -> NDArray[np.float64]:
    """The best cosine of each latent of ``run``, averaged over the other runs, ``[n]``."""
    return np.asarray(_best(side, run).mean(0))


def masks(probabilities: NDArray[np.float64], settings: SeedStabilitySettings) -> dict[str, NDArray[np.bool_]]:
    """Which latents are stable, mixed and unstable; a latent whose probability is NaN is none of them."""
    stable, unstable = probabilities >= settings.stable_from, probabilities <= settings.unstable_to
    return {"stable": stable, "mixed": ~(stable | unstable | np.isnan(probabilities)), "unstable": unstable}


def member_stabilities(
    group: SAEGroup,
    every: Sequence[ComparedLatents],
    alive: Sequence[ComparedLatents],
    side: SideComparison,
    settings: SeedStabilitySettings,
) -> list[MemberStability]:
    """Sort the latents of each member into stable and unstable ones.

    Args:
        group: The members.
        every: All latents of each member.
        alive: Those of them that fire.
        side: The comparison of the decoder directions of ``alive``.
        settings: The threshold, and from and up to which probability a latent is stable or unstable.
    """
    members = []
    each = zip(group.saes, group.fingerprints, every, alive, strict=True)
    for run, (sae, fingerprint, latents, compared) in enumerate(each):
        found_again = compared.spread(probability(side, run, settings.threshold))
        cosines, which = compared.spread(similarity(side, run)), masks(found_again, settings)
        kinds = which["stable"], which["unstable"]
        members.append(MemberStability(sae, fingerprint, cosines, found_again, *kinds, latents.firing))
    return members


def decoder_rows(
    kind: Kind, members: Sequence[MemberStability], every: Sequence[ComparedLatents], settings: SeedStabilitySettings
) -> list[Tensor]:
    """The decoder rows of the latents of one kind, ``[n, d]`` for each member; less the mean row where ``centred``.

    They are sorted by the activation mass of their latents, so that draws of rows do not depend on how these are
    numbered.
    """
    rows = [centred(latents.decoder) if settings.centred else latents.decoder for latents in every]
    latents = [np.flatnonzero(member.group(kind)) for member in members]
    ordered = [own[np.argsort(m.firing.mass[own], kind="stable")] for own, m in zip(latents, members, strict=True)]
    return [own[chosen] for own, chosen in zip(rows, ordered, strict=True)]


def groups_with_controls(
    member: MemberStability, settings: SeedStabilitySettings, context: TaskContext
) -> GroupsWithControls:
    """The stable and the unstable latents of ``member``, each followed by ``control_draws`` random groups.

    A random group has as many latents as the group itself in each frequency decile.
    """
    strata = member.strata
    groups: GroupsWithControls = {}
    for kind in KINDS:
        rng = context.rng(f"seed_stability:{kind}", member.fingerprint)
        controls = matched_groups(member.group(kind), strata, settings.control_draws, rng, key=member.firing.mass)
        groups[kind] = np.vstack([member.group(kind), controls])
    return groups


def _best(side: SideComparison, run: int) -> NDArray[np.float64]:
    """The best cosines of the latents of ``run`` in each other run, ``[runs - 1, n]``."""
    return np.stack([best for (a, _), best in sorted(side.best.items()) if a == run])
