"""The methods that change weights: RMU, which needs no SAE, and SSPU, which the latents of an SAE guide."""

from __future__ import annotations

from saebench.interventions.finetune import FineTune
from saebench.interventions.sspu import unlearn
from saebench.interventions.subspaces import Subspaces
from saebench.interventions.weights import WeightDelta
from saebench.lm.site import parse_site
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.unlearning.data.documents import training_batches
from saebench.tasks.unlearning.selection import LatentStatistics, guiding_latents
from saebench.tasks.unlearning.settings import UnlearningSettings

RMU, SSPU = "rmu", "sspu"


def train_rmu(context: TaskContext, settings: UnlearningSettings, site: str) -> WeightDelta:
    """Train weights by representation misdirection (2403.03218), on the documents to fit on."""
    return _trained(context, settings, site, None, penalty=0.0)


def can_guide(sae: SAE, context: TaskContext) -> bool:
    """Whether the latents have directions in the residual stream, which SSPU needs."""
    return Capability.LINEAR_DECODER in sae.capabilities and sae.d_out == context.lm.d_model


def train_sspu(
    sae: SAE, context: TaskContext, statistics: LatentStatistics, settings: UnlearningSettings
) -> WeightDelta | None:
    """Train weights by SSPU (2505.24428), guided by the latents of an SAE that `can_guide`.

    Returns None where no latent is relevant, or none is irrelevant.
    """
    relevant, irrelevant = guiding_latents(statistics, settings)
    if not len(relevant) or not len(irrelevant):
        return None
    subspaces = Subspaces.of_latents(sae, relevant.tolist(), irrelevant.tolist())
    return _trained(context, settings, sae.hook.site_out, subspaces, settings.sspu_penalty)


def _trained(
    context: TaskContext, settings: UnlearningSettings, site: str, subspaces: Subspaces | None, penalty: float
) -> WeightDelta:
    forget, retain = training_batches(context, settings)
    training = FineTune(
        site=f"blocks.{parse_site(site).layer}.hook_resid_post",
        steps=settings.fine_tune_steps,
        penalty=penalty,
        seed=context.seed,
    )
    return unlearn(context.lm, forget, retain, training, subspaces, context.progress)
