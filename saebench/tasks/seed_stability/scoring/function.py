"""What the stable and the unstable latents do: reconstruction and loss without them, and with nothing but them.

After arXiv 2606.12138; the formulas are saebench's own. Nothing is refitted. For a group G of a member's latents:

- ``ev_drop`` = EV(all latents) - EV(f_G = 0) and ``ev_keep`` = EV(f_G only), where EV = 1 - FVU over all evaluated
  tokens;
- ``ce_drop`` = CE(x - f_G W_G) - CE(x), which keeps the SAE's error, and ``ce_keep`` = CE(f_G W_G + c) - CE(x), which
  leaves it out, where c is the decoder's constant; ``kl_drop`` and ``kl_keep`` are the divergences from the unmodified
  model in the same two cases;
- ``ev_drop_per_mass`` and ``ev_drop_per_latent`` divide ``ev_drop`` by the group's share of the activation mass and of
  the latents.

Each is compared with the same figure of random groups that have as many latents in each frequency decile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from saebench.passes.context import TaskContext
from saebench.tasks.seed_stability.data import captured_text, loss_pass
from saebench.tasks.seed_stability.scoring.losses import group_losses
from saebench.tasks.seed_stability.scoring.surface import SurfaceForm, surface_form
from saebench.tasks.seed_stability.scoring.variance import GroupErrors, group_errors
from saebench.tasks.seed_stability.selection import (
    KINDS,
    GroupsWithControls,
    Kind,
    MemberStability,
    groups_with_controls,
)
from saebench.tasks.seed_stability.settings import SeedStabilitySettings

PerSequence = NDArray[np.float64]


@dataclass(frozen=True)
class GroupEffect:
    """One figure of the groups of one kind, as a ratio of sums over sequences for each member that has such a group."""

    denominator: PerSequence  # the same for every member
    own: list[PerSequence] = field(default_factory=list)  # the numerators of each member's group
    controls: list[PerSequence] = field(default_factory=list)  # the mean numerators of each member's random groups

    def add(self, rows: NDArray[np.float64]) -> None:
        """Add a member, from ``[1 + draws, sequences]``: the numerators of its group, then of its random groups."""
        self.own.append(rows[0])
        self.controls.append(rows[1:].mean(0))


@dataclass(frozen=True)
class VarianceEffects:
    """What the groups of one kind do to the explained variance."""

    drop: GroupEffect
    keep: GroupEffect
    drop_per_mass: GroupEffect
    drop_per_latent: list[PerSequence] = field(default_factory=list)  # the numerators of each member's group
    mass_ratios: list[float] = field(default_factory=list)  # mass of the random groups over that of the group


@dataclass(frozen=True)
class FunctionScores:
    """What the stable and the unstable latents of the members of a group do."""

    errors: list[GroupErrors]  # one for each member
    variance: dict[Kind, VarianceEffects]
    surface: SurfaceForm
    losses: dict[tuple[str, Kind], GroupEffect]  # by metric, such as ``ce_drop``, and kind; in nats


def function_scores(
    members: Sequence[MemberStability], context: TaskContext, settings: SeedStabilitySettings
) -> FunctionScores:
    """Leave out, and keep alone, the groups of latents of ``members`` and random groups like them.

    Raises:
        SaebenchError: An SAE gives NaN or Inf.
    """
    captured, hook = captured_text(context, settings), members[0].sae.hook
    groups = [groups_with_controls(member, settings, context) for member in members]
    stacked = [np.concatenate([by_kind[kind] for kind in KINDS]) for by_kind in groups]
    errors = group_errors([member.sae for member in members], stacked, captured, hook, context)
    concentrations = [error.tokens.concentration(settings.surface_firings) for error in errors]
    return FunctionScores(
        errors,
        {kind: _variance_effects(kind, members, groups, errors) for kind in KINDS},
        surface_form(members, concentrations, int(captured.batch.evaluated.sum())),
        _loss_effects(members[: settings.loss_members], groups, context, settings) if settings.loss_members else {},
    )


def _variance_effects(
    kind: Kind,
    members: Sequence[MemberStability],
    groups: Sequence[GroupsWithControls],
    errors: Sequence[GroupErrors],
) -> VarianceEffects:
    """What the groups of one kind do; ``errors`` are those of the groups of all `KINDS`, one kind after the other."""
    spread = errors[0].spread
    effects = VarianceEffects(GroupEffect(spread), GroupEffect(spread), GroupEffect(spread))
    for member, by_kind, error in zip(members, groups, errors, strict=True):
        masks = by_kind[kind]
        if not masks[0].any():
            continue
        first = KINDS.index(kind) * len(masks)
        rows = slice(first, first + len(masks))
        lost = error.dropped[rows] - error.all
        mass = member.firing.mass
        shares = np.array([mass[mask].sum() for mask in masks]) / mass.sum()
        effects.drop.add(lost)
        effects.keep.add(error.spread - error.kept[rows])
        effects.drop_per_mass.add(lost / shares[:, None])
        effects.drop_per_latent.append(lost[0] / (masks[0].sum() / member.scored.sum()))
        effects.mass_ratios.append(float(shares[1:].mean() / shares[0]))
    return effects


def _loss_effects(
    members: Sequence[MemberStability],
    groups: Sequence[GroupsWithControls],
    context: TaskContext,
    settings: SeedStabilitySettings,
) -> dict[tuple[str, Kind], GroupEffect]:
    """What the groups of ``members``, and ``loss_draws`` of their random groups, do to cross-entropy and KL."""
    clean, memory = loss_pass(context, settings, members[0].sae.hook.site_out), context.budget.encoder
    clean_ce, predictions = clean.ce.numpy(), clean.predictions.numpy()
    effects: dict[tuple[str, Kind], GroupEffect] = {}
    for verb in ("drop", "keep") if settings.loss_keep else ("drop",):
        for kind in KINDS:
            ce, kl = GroupEffect(predictions), GroupEffect(predictions)
            effects |= {(f"ce_{verb}", kind): ce, (f"kl_{verb}", kind): kl}
            for member, by_kind in zip(members, groups, strict=False):
                masks = by_kind[kind][: 1 + settings.loss_draws]
                if not masks[0].any():
                    continue
                # Equal groups are spliced once: a group of all latents is its own control.
                distinct = {mask.tobytes(): mask for mask in masks}
                what, keep = f"{verb} {kind} latents of", verb == "keep"
                spliced = {
                    key: group_losses(member.sae, mask, clean, memory, what, keep=keep)
                    for key, mask in distinct.items()
                }
                rows = [spliced[mask.tobytes()] for mask in masks]
                ce.add(np.stack([row.ce.numpy() - clean_ce for row in rows]))
                kl.add(np.stack([row.kl.numpy() for row in rows]))
    return effects
