"""The methods that change weights: RMU, the same for all SAEs, and SSPU, which an SAE's latents guide."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saebench.interventions.finetune import FineTune
from saebench.interventions.sspu import unlearn
from saebench.interventions.subspaces import Subspaces
from saebench.interventions.weights import WeightDelta
from saebench.lm.site import parse_site
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, Capability
from saebench.tasks.unlearning.evaluate import Evaluation, Result
from saebench.tasks.unlearning.selection import Statistics
from saebench.tasks.unlearning.texts import training_batches


def rmu(evaluation: Evaluation, parameters: dict[str, Any]) -> Result:
    """Representation misdirection (2403.03218) on the part `fit`, once for all SAEs at a site."""
    layer = parse_site(evaluation.site).layer
    key = ("unlearning", "rmu", layer, evaluation.site, json.dumps(parameters, sort_keys=True))
    return evaluation.context.shared(
        key, lambda: evaluation.weight_result("rmu", _trained(evaluation, parameters, None, penalty=0.0))
    )


def can_guide(sae: SAE, context: TaskContext) -> bool:
    """Whether the latents have directions in the residual stream, which SSPU needs."""
    return Capability.LINEAR_DECODER in sae.capabilities and sae.d_out == context.lm.d_model


def sspu(evaluation: Evaluation, sae: SAE, statistics: Statistics, parameters: dict[str, Any]) -> Result:
    """SSPU (2505.24428), for an SAE that `can_guide`."""
    relevant, irrelevant = guiding_latents(statistics, parameters)
    if not len(relevant) or not len(irrelevant):
        return evaluation.unchanged("sspu", tuple(parameters["weight_strengths"]))
    subspaces = Subspaces.of_latents(sae, relevant.tolist(), irrelevant.tolist())
    return evaluation.weight_result("sspu", _trained(evaluation, parameters, subspaces, parameters["sspu_penalty"]))


def guiding_latents(statistics: Statistics, parameters: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last of the latents that fire at all, when they are ranked for the forget text.

    First: `sparsity_ratio`. Last: those that fire least often there, of equal ones the most frequent elsewhere.
    """
    relevant = statistics.select("sparsity_ratio", parameters["sspu_latents"], parameters)
    last = np.lexsort((-statistics.retain_rate, statistics.forget_rate))
    last = last[(statistics.retain_rate[last] > 0) & ~np.isin(last, relevant)]
    return relevant, last[: parameters["sspu_latents"]].astype(np.int64)


def _trained(
    evaluation: Evaluation, parameters: dict[str, Any], subspaces: Subspaces | None, penalty: float
) -> WeightDelta:
    context: TaskContext = evaluation.context
    forget, retain = training_batches(context, evaluation.parts["fit"], parameters)
    settings = FineTune(
        site=f"blocks.{parse_site(evaluation.site).layer}.hook_resid_post",
        steps=parameters["fine_tune_steps"],
        penalty=penalty,
        seed=context.seed,
    )
    return unlearn(context.lm, forget, retain, settings, subspaces, context.progress)
