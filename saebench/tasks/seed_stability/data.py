"""What the task reads: the text on which latents fire, and the SAEs as they were before training."""

from __future__ import annotations

from saebench.errors import UsageError
from saebench.evaluation import SAEGroup
from saebench.passes.captured import CapturedText
from saebench.passes.clean import CleanPass
from saebench.passes.context import TaskContext
from saebench.sae.base import LoadContext
from saebench.sae.protocol import SAE, Capability
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.tasks.seed_stability.settings import SeedStabilitySettings


def captured_text(context: TaskContext, settings: SeedStabilitySettings) -> CapturedText:
    """The language model's activations on the evaluated sequences."""
    return context.captured(settings.text, settings.context_length, settings.sequences)


def loss_pass(context: TaskContext, settings: SeedStabilitySettings, site: str) -> CleanPass:
    """The clean pass at ``site`` over the sequences on which cross-entropy and KL are measured."""
    return context.clean(settings.text, settings.context_length, settings.loss_sequences, site)


def evaluated_sequences(context: TaskContext, settings: SeedStabilitySettings) -> list[str]:
    """The content hashes of the evaluated sequences, and of those for losses where these are measured."""
    sizes = [settings.sequences, *([settings.loss_sequences] if settings.loss_members else [])]
    return [context.batch(settings.text, settings.context_length, size).content_hash for size in sizes]


def initial_fingerprints(context: TaskContext, settings: SeedStabilitySettings) -> dict[str, str]:
    """The fingerprint of each SAE that ``at_init`` names, by ``at_init:REFERENCE``."""
    return {f"at_init:{ref}": _load(ref, context, settings).fingerprint() for ref in settings.at_init}


def initial_saes(group: SAEGroup, context: TaskContext, settings: SeedStabilitySettings) -> list[SAE]:
    """The SAEs that ``at_init`` names: the members of ``group`` before their training, in the order of the group.

    ``at_init`` names them in the order in which the user lists the members.

    Raises:
        UsageError: There is not one SAE of the right widths for each member, or one has no linear decoder.
    """
    in_list = sorted(range(len(group.saes)), key=lambda place: group.listed[place])
    members = [group.saes[place] for place in in_list]
    initial = [_load(ref, context, settings) for ref in settings.at_init]
    if [(sae.d_sae, sae.d_out) for sae in initial] != [(sae.d_sae, sae.d_out) for sae in members]:
        raise UsageError(
            "seed_stability: at_init must name one SAE of the same widths for each member of the group, in their "
            f"order: {', '.join(sae.name for sae in members)}."
        )
    if any(Capability.LINEAR_DECODER not in sae.capabilities for sae in initial):
        raise UsageError("seed_stability: every SAE of at_init must have a linear decoder.")
    return [initial[place] for place in group.listed]


def _load(ref: str, context: TaskContext, settings: SeedStabilitySettings) -> SAE:
    loading = LoadContext(
        calibration=lambda site: context.calibration(settings.text, site),
        d_in=context.lm.d_at,
        seed=context.seed,
        device=context.lm.device,
    )
    return load_sae(parse_sae_ref(ref), loading)
