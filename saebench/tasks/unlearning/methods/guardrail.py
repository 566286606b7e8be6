"""The dynamic guardrail of DSG (2504.08192): it changes latents only in texts in which they fire often enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from saebench.interventions.edit import fires
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.places import Places
from saebench.lm.batching import to_device
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.tasks.unlearning.data.documents import documents
from saebench.tasks.unlearning.methods.clamps import latents_of, units
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.selection import LatentIndices, LatentStatistics, selections
from saebench.tasks.unlearning.settings import UnlearningSettings


def guardrail_sweeps(
    sae: SAE, context: TaskContext, statistics: LatentStatistics, settings: UnlearningSettings
) -> list[UnlearningSweep]:
    """Guard with the latents of each selection; the gate is set on the retained documents to fit on."""
    return [
        guardrail_of(sae, context, statistics, indices, settings, label)
        for label, indices in selections(statistics, settings.dsg_selections, settings)
    ]


def guardrail_of(
    sae: SAE,
    context: TaskContext,
    statistics: LatentStatistics,
    indices: LatentIndices,
    settings: UnlearningSettings,
    label: str,
) -> UnlearningSweep:
    """The sweep of ``dsg`` for some latents."""
    if not len(indices):
        return UnlearningSweep("dsg", settings.strengths, (), label=label)
    latents = latents_of(sae, context, indices)
    rho = firing_shares(sae, context, documents(context, settings)["fit"].retain, settings.context_length, indices)
    tau = float(np.percentile(rho, settings.gate_percentile))
    unit = units(statistics.size[indices], settings).mean()
    edits = tuple(
        DynamicGuardrail(latents, tau=tau, value=-strength * unit, scope="whole") for strength in settings.strengths
    )
    return UnlearningSweep("dsg", settings.strengths, edits, tuple(latents.indices), label, tau)


@torch.no_grad()
def firing_shares(
    sae: SAE, context: TaskContext, texts: Sequence[str], context_length: int, latents: LatentIndices
) -> Float[np.ndarray, " texts"]:
    """DSG's rho: the share of each text's tokens at which any of ``latents`` fires."""
    chosen = latents_of(sae, context, latents)
    fired, tokens = np.zeros(len(texts)), np.zeros(len(texts))
    for x, text in context.examples(texts, context_length).tokens(sae.hook.site_in):
        batch = to_device(x, context.lm.device)[None]
        every = Places.of(torch.ones(batch.shape[:2], dtype=torch.bool, device=batch.device))
        values = chosen.read(batch, batch, every).values
        fired += np.bincount(text.numpy(), fires(values).any(-1).cpu().numpy(), len(texts))
        tokens += np.bincount(text.numpy(), minlength=len(texts))
    return fired / tokens
