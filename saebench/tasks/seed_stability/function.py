"""What the stable and the unstable latents do: reconstruction and loss without them, and with nothing but them.

Definitions 1.1 (arXiv 2606.12138; the formulas are ours). For a group G of a member's latents, no refitting:

- ``ev_drop`` = EV(all latents) - EV(f_G = 0), ``ev_keep`` = EV(f_G only), with EV = 1 - FVU over all evaluated tokens;
- ``ce_drop`` = CE(x - f_G W_G) - CE(x), the SAE's error kept; ``ce_keep`` = CE(f_G W_G + c) - CE(x), the error dropped,
  with c the decoder's constant; likewise ``kl_drop`` and ``kl_keep``, the divergence from the unmodified model.

Each stands beside its control, random groups of latents with as many members in each frequency decile (``_random``),
and the paired difference from it (``_excess``). ``ev_drop_per_mass`` and ``ev_drop_per_latent`` divide by the group's
share of the activation mass and of the latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.evaluation.measure import add
from saebench.evaluation.task import SAEGroup, TaskOutput
from saebench.passes.clean import CleanPass
from saebench.passes.context import TaskContext
from saebench.results.record import Arrays, Measurement
from saebench.stats.intervals import bootstrap_ratio, mean_estimate, ratio
from saebench.stats.strata import frequency_strata, matched_groups
from saebench.tasks.seed_stability.losses import only, without
from saebench.tasks.seed_stability.parts import GroupDecoder
from saebench.tasks.seed_stability.stability import MemberStability
from saebench.tasks.seed_stability.surface import GROUPS, no_group, surface
from saebench.tasks.seed_stability.variance import GroupErrors, group_errors

PerSequence = NDArray[np.float64]
# Per member that has the group: its own numerator and the mean numerator of its controls, both [sequences].
Pairs = list[tuple[PerSequence, PerSequence]]


def functional(
    group: SAEGroup, members: Sequence[MemberStability], context: TaskContext, parameters: Mapping[str, Any]
) -> tuple[list[Measurement], Arrays]:
    """Function and surface form of the stable and unstable latents of ``members``, averaged over the members.

    Units are sequences (latents for the surface form). Values of single members are in the arrays
    ``<metric>/<subset>.members``; ``control_mass_ratio`` says how well the controls match in activation mass.

    Parameters: ``text``, ``context_length``, ``sequences``, ``bootstrap_replicates``; ``control_draws`` (random groups,
    at least 1), ``loss_sequences``, ``loss_members`` (the first ones; 0 for no CE and KL), ``loss_draws`` (how many of
    the random groups have CE and KL), ``loss_keep`` (CE and KL of groups alone too), ``surface_firings`` (latents that
    fire less often have no token entropy).

    Raises NotApplicableError without a linear decoder, SaebenchError when an SAE gives NaN or Inf.
    """
    captured = context.captured(parameters["text"], parameters["context_length"], parameters["sequences"])
    output = TaskOutput(measurements=[])
    report = _Report(output, context, parameters["bootstrap_replicates"])
    strata = [frequency_strata(member.counts, member.scored) for member in members]
    draws = parameters["control_draws"]
    controls = [_controls(member, each, draws, context) for member, each in zip(members, strata, strict=True)]
    decoders = []
    for member, drawn in zip(members, controls, strict=True):
        every = np.ones((1, member.sae.d_sae), bool)
        stack = np.concatenate([*(np.vstack([getattr(member, name), drawn[name]]) for name in GROUPS), every])
        decoders.append((GroupDecoder(member.sae, stack, context.budget.encoder, context.lm.device), len(stack)))
    errors = group_errors(decoders, captured, group.saes[0].hook, context)
    _variance(report, members, controls, errors)
    found = [each.tokens.concentration(parameters["surface_firings"]) for each in errors]
    surface(output, members, strata, found, int(captured.batch.evaluated.sum()))
    chosen = members[: parameters["loss_members"]]
    if chosen:
        site, length = group.saes[0].hook.site_out, parameters["context_length"]
        clean = context.clean(parameters["text"], length, parameters["loss_sequences"], site)
        _losses(report, chosen, controls, clean, context.budget.encoder, parameters)
    return output.measurements, output.arrays


def _controls(
    member: MemberStability, strata: NDArray[np.int64], draws: int, context: TaskContext
) -> dict[str, NDArray[np.bool_]]:
    """Matched random groups ``[draws, d_sae]`` of each kind; the same whatever else is measured."""
    return {
        name: matched_groups(
            getattr(member, name), strata, draws, context.rng(f"seed_stability:{name}:{member.sae.fingerprint()}")
        )
        for name in GROUPS
    }


class _Report:
    """Adds a group's figure, its control's, and the difference, as means over members."""

    def __init__(self, output: TaskOutput, context: TaskContext, replicates: int) -> None:
        self.output, self._context, self._replicates = output, context, replicates

    def one(self, metric: str, subset: str, nums: Sequence[PerSequence], den: PerSequence, why: str) -> None:
        """``nums`` are one numerator per member; without any the metric is not scored, because of ``why``."""
        num = np.mean(nums, axis=0) if nums else np.zeros_like(den)
        weights = self._context.bootstrap_weights(len(den), self._replicates)
        estimate = bootstrap_ratio(num, den if nums else np.zeros_like(den), weights)
        add(self.output, metric, estimate, "sequence", why, subset, (num, den) if nums else None)
        if nums:
            self.output.arrays[f"{metric}/{subset}.members" if subset else f"{metric}.members"] = np.array(
                [ratio(each, den) for each in nums]
            )

    def against_control(self, metric: str, subset: str, pairs: Pairs, den: PerSequence) -> None:
        why = no_group(subset)
        self.one(metric, subset, [own for own, _ in pairs], den, why)
        self.one(f"{metric}_random", subset, [control for _, control in pairs], den, why)
        self.one(f"{metric}_excess", subset, [own - control for own, control in pairs], den, why)


def _variance(
    report: _Report,
    members: Sequence[MemberStability],
    controls: Sequence[dict[str, NDArray[np.bool_]]],
    errors: Sequence[GroupErrors],
) -> None:
    spread = errors[0].spread
    report.one("ev_all", "", [spread - each.all for each in errors], spread, "the activations do not vary")
    report.one("ev_none", "", [spread - each.none for each in errors], spread, "the activations do not vary")
    for position, name in enumerate(GROUPS):
        drop: Pairs = []
        keep: Pairs = []
        per_mass: Pairs = []
        per_latent: list[PerSequence] = []
        mass_ratios: list[float] = []
        for member, drawn, error in zip(members, controls, errors, strict=True):
            mask: NDArray[np.bool_] = getattr(member, name)
            if not mask.any():
                continue
            first = position * (1 + len(drawn[name]))
            rows = slice(first, first + 1 + len(drawn[name]))  # the group, then its controls
            lost = error.dropped[rows] - error.all
            drop.append(_pair(lost))
            keep.append(_pair(error.spread - error.kept[rows]))
            masses = np.array([member.mass[each].sum() for each in (mask, *drawn[name])]) / member.mass.sum()
            per_mass.append(_pair(lost / masses[:, None]))
            per_latent.append(lost[0] / (mask.sum() / member.scored.sum()))
            mass_ratios.append(float(masses[1:].mean() / masses[0]))
        report.against_control("ev_drop", name, drop, spread)
        report.against_control("ev_keep", name, keep, spread)
        report.against_control("ev_drop_per_mass", name, per_mass, spread)
        why = no_group(name)
        report.one("ev_drop_per_latent", name, per_latent, spread, why)
        add(report.output, "control_mass_ratio", mean_estimate(np.array(mass_ratios)), "sae", why, name)


def _losses(
    report: _Report,
    members: Sequence[MemberStability],
    controls: Sequence[dict[str, NDArray[np.bool_]]],
    clean: CleanPass,
    memory: int,
    parameters: Mapping[str, Any],
) -> None:
    ce, predictions = clean.ce.numpy(), clean.predictions.numpy()
    for verb, losses in (("drop", without), ("keep", only))[: 1 + parameters["loss_keep"]]:
        for name in GROUPS:
            pairs: dict[str, Pairs] = {"ce": [], "kl": []}
            for member, drawn in zip(members, controls, strict=False):
                groups = [getattr(member, name), *drawn[name][: parameters["loss_draws"]]]
                if not groups[0].any():
                    continue
                # By content: a group that holds all latents is its own control.
                runs = {each.tobytes(): each for each in groups}
                what = f"{verb} {name} latents of"
                measured = {key: losses(member.sae, each, clean, memory, what) for key, each in runs.items()}
                found = [measured[each.tobytes()] for each in groups]
                pairs["ce"].append(_pair(np.stack([each.ce.numpy() - ce for each in found])))
                pairs["kl"].append(_pair(np.stack([each.kl.numpy() for each in found])))
            for metric, each in pairs.items():
                report.against_control(f"{metric}_{verb}", name, each, predictions)


def _pair(rows: NDArray[np.float64]) -> tuple[PerSequence, PerSequence]:
    """The group's numerator, and the mean of those of its controls, from ``[1 + draws, sequences]``."""
    return rows[0], rows[1:].mean(0)
