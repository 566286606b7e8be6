"""Which latents of an SAE come back when it is trained again with another seed (definitions.md 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch

from saebench.errors import NotApplicableError, UsageError
from saebench.evaluation.task import GroupTask, SAEGroup, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.base import LoadContext
from saebench.sae.protocol import SAE, Capability
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.stats.matching import centred
from saebench.tasks.seed_stability.activity import Activity, measure_activity
from saebench.tasks.seed_stability.arrays import per_latent, spread
from saebench.tasks.seed_stability.clusters import report_clusters
from saebench.tasks.seed_stability.figures import Rules, Weights, kinds, probability, report, report_pairs, similarity
from saebench.tasks.seed_stability.function import functional
from saebench.tasks.seed_stability.geometry import NULLS, Comparison, Rows, Settings, Side, compare
from saebench.tasks.seed_stability.settings import SeedStabilitySettings
from saebench.tasks.seed_stability.stability import MemberStability
from saebench.tasks.seed_stability.subspace_report import report_subspaces


class SeedStabilityTask(GroupTask[SeedStabilitySettings]):
    """Stability of the latents of a group of SAEs that differ in seed: geometry, subspaces and function."""

    name: ClassVar[str] = "seed_stability"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE})
    settings = SeedStabilitySettings

    def prepare(self, context: TaskContext, settings: SeedStabilitySettings) -> None:
        """Raise UsageError or DataError for a text or for thresholds that cannot be used."""
        parameters = settings.parameters()
        if not 0 <= parameters["unstable_to"] < parameters["stable_from"] <= 1:
            raise UsageError("seed_stability: unstable_to must be below stable_from, and both lie in [0, 1].")
        context.batch(parameters["text"], parameters["context_length"], parameters["sequences"])

    def data(self, context: TaskContext, settings: SeedStabilitySettings) -> dict[str, str]:
        """Fingerprints of the SAEs at initialisation."""
        parameters = settings.parameters()
        initial = {f"at_init:{ref}": _initial(ref, context, parameters).fingerprint() for ref in parameters["at_init"]}
        return super().data(context, settings) | initial

    @torch.no_grad()
    def run_group(self, group: SAEGroup, context: TaskContext, settings: SeedStabilitySettings) -> TaskOutput:
        """Measure ``group``. Raises NotApplicableError for a group that holds the same SAE twice."""
        parameters = settings.parameters()
        saes = group.saes
        if len({sae.fingerprint() for sae in saes}) < len(saes):
            raise NotApplicableError(
                f"Group {group.name} holds the same SAE twice, which would be perfectly stable; name SAEs that were "
                "trained apart."
            )
        rules = Rules.of(parameters)
        settings = Settings(parameters["absolute"], parameters["centred"], parameters["exact_matching_limit"])
        captured = context.captured(parameters["text"], parameters["context_length"], parameters["sequences"])
        captured.want(*(sae.hook.site_in for sae in saes))
        activity = [measure_activity(sae, captured, context.budget.encoder) for sae in saes]
        every = [_rows(sae) for sae in saes]
        alive = [rows.of(each.counts > 0) for rows, each in zip(every, activity, strict=True)]

        output = TaskOutput(measurements=[])
        found = compare(alive, alive, settings)
        weights = _weights(alive, activity)
        report(output, alive, found, weights, rules)
        report_pairs(output, [sae.name for sae in saes], found, rules)
        _report_nulls(output, alive, weights, context, settings, rules, "")
        report(output, every, compare(every, every, settings), _weights(every, activity), rules, "all")
        # For reference: of decoders alone, since each one-to-one matching of random rows takes as long as a real one.
        decoders = [rows.without_encoder() for rows in every]
        _report_nulls(output, decoders, _weights(every, activity), context, settings, rules, "all")
        if parameters["at_init"]:
            start = [
                rows.of(each.counts > 0)
                for rows, each in zip(_at_init(saes, context, parameters), activity, strict=True)
            ]
            report(output, start, compare(start, start, settings), weights, rules, "at-init")

        members = [
            _member(sae, rows, found.decoder, run, each, rules)
            for run, (sae, rows, each) in enumerate(zip(saes, alive, activity, strict=True))
        ]
        _report_spans(output, members, every, context, parameters)
        measurements, arrays = functional(group, members, context, parameters)
        output.measurements += measurements
        output.arrays |= {**arrays, **per_latent(members, alive, found)}
        output.counts |= _counts(members, found, int(captured.batch.evaluated.sum()), output)
        return output


def _report_nulls(
    output: TaskOutput,
    rows: Sequence[Rows],
    weights: Sequence[Weights],
    context: TaskContext,
    settings: Settings,
    rules: Rules,
    label: str,
) -> None:
    """The same figures with random dictionaries in the place of the other runs."""
    for kind in NULLS:
        stand_ins = [
            each.null(kind, partial(_generator, context, f"{label}:{kind}:{run}")) for run, each in enumerate(rows)
        ]
        subset = f"{label}/null:{kind}" if label else f"null:{kind}"
        report(output, rows, compare(rows, stand_ins, settings), weights, rules, subset, shared=not label)


def _report_spans(
    output: TaskOutput,
    members: Sequence[MemberStability],
    every: Sequence[Rows],
    context: TaskContext,
    parameters: dict[str, Any],
) -> None:
    """Subspaces of the unstable rows, as a whole and by clusters."""
    rows = [centred(each.decoder) if parameters["centred"] else each.decoder for each in every]
    unstable = [each[np.flatnonzero(member.unstable)] for each, member in zip(rows, members, strict=True)]
    stable = [each[np.flatnonzero(member.stable)] for each, member in zip(rows, members, strict=True)]
    rng = partial(_generator, context, "subspaces")
    energy = parameters["energy"]
    report_subspaces(output, unstable, stable, rng, parameters["subspace_draws"], energy)
    report_clusters(output, unstable, stable, rng, parameters["cluster_size"], energy)


def _generator(context: TaskContext, purpose: str, name: str) -> np.random.Generator:
    return context.rng(f"seed_stability:{purpose}:{name}")


def _rows(sae: SAE) -> Rows:
    encoder = sae.encoder_directions().detach() if Capability.ENCODER_DIRECTIONS in sae.capabilities else None
    return Rows(np.arange(sae.d_sae), sae.d_sae, sae.decoder_directions().detach().float(), encoder)


def _weights(rows: Sequence[Rows], activity: Sequence[Activity]) -> list[Weights]:
    return [
        Weights(each.counts[r.latents].astype(np.float64), each.mass[r.latents])
        for r, each in zip(rows, activity, strict=True)
    ]


def _initial(ref: str, context: TaskContext, parameters: dict[str, Any]) -> SAE:
    loading = LoadContext(
        calibration=lambda site: context.calibration(parameters["text"], site),
        d_in=context.lm.d_at,
        seed=context.seed,
        device=context.lm.device,
    )
    return load_sae(parse_sae_ref(ref), loading)


def _at_init(saes: Sequence[SAE], context: TaskContext, parameters: dict[str, Any]) -> list[Rows]:
    """Directions of the members before training. Raises UsageError unless there is one fitting SAE for each member."""
    refs = parameters["at_init"]
    initial = [_initial(ref, context, parameters) for ref in refs]
    if [(sae.d_sae, sae.d_out) for sae in initial] != [(sae.d_sae, sae.d_out) for sae in saes]:
        raise UsageError(
            "seed_stability: at_init must name one SAE of the same widths for each member of the group, in their "
            f"order: {', '.join(sae.name for sae in saes)}."
        )
    if any(Capability.LINEAR_DECODER not in sae.capabilities for sae in initial):
        raise UsageError("seed_stability: every SAE of at_init must have a linear decoder.")
    return [_rows(sae) for sae in initial]


def _member(sae: SAE, rows: Rows, side: Side, run: int, activity: Activity, rules: Rules) -> MemberStability:
    p = spread(probability(side, run, rules.threshold), rows)
    which = kinds(p, rules)
    return MemberStability(
        sae=sae,
        similarity=spread(similarity(side, run), rows),
        probability=p,
        stable=which["stable"],
        unstable=which["unstable"],
        alive=activity.counts > 0,
        counts=activity.counts,
        mass=activity.mass,
    )


def _counts(members: Sequence[MemberStability], found: Comparison, tokens: int, output: TaskOutput) -> dict[str, int]:
    return {
        "members": len(members),
        "tokens": tokens,
        "latents": sum(member.sae.d_sae for member in members),
        "latents_alive": sum(int(member.alive.sum()) for member in members),
        "latents_scored": sum(int(member.scored.sum()) for member in members),
        "latents_stable": sum(int(member.stable.sum()) for member in members),
        "latents_unstable": sum(int(member.unstable.sum()) for member in members),
        "pairs_matched_greedily": sum(not matching.exact for matching in found.decoder.matched.values()),
        "latents_unmatched": sum(int((matching.index < 0).sum()) for matching in found.decoder.matched.values()),
        "not_scored": sum(m.value is None for m in output.measurements),
    }
