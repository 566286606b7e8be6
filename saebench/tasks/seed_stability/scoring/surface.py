"""Surface form: whether unstable latents fire on few different tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saebench.stats.identity import Concentration
from saebench.tasks.seed_stability.selection import KINDS, Kind, MemberStability


@dataclass(frozen=True)
class SurfaceForm:
    """On what the latents of all members fire, pooled. All arrays are ``[latents]``."""

    groups: dict[Kind, NDArray[np.bool_]]  # which latents are of each kind
    stratum: NDArray[np.int64]  # latents of one member and one frequency decile have the same number
    entropy: NDArray[np.float64]  # nats, of the tokens that it fires on; NaN for latents that fire too rarely
    modal_share: NDArray[np.float64]  # share of its most frequent token; NaN as above
    density: NDArray[np.float64]  # share of the evaluated tokens on which it fires


def surface_form(
    members: Sequence[MemberStability], concentrations: Sequence[Concentration], evaluated: int
) -> SurfaceForm:
    """Pool the latents of ``members``.

    Args:
        members: The members.
        concentrations: How concentrated the tokens are on which each member's latents fire.
        evaluated: The number of evaluated tokens.
    """
    strata = [member.strata for member in members]
    offset = max((int(member.max()) for member in strata), default=0) + 1
    return SurfaceForm(
        {kind: np.concatenate([member.group(kind) for member in members]) for kind in KINDS},
        np.concatenate([stratum + number * offset for number, stratum in enumerate(strata)]),
        np.concatenate([member.entropy for member in concentrations]),
        np.concatenate([member.modal_share for member in concentrations]),
        np.concatenate([member.totals for member in concentrations]) / max(evaluated, 1),
    )
