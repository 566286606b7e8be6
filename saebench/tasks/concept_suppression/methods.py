"""Ways to suppress a concept by some latents, fitted to the tokens of labelled examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from saebench.interventions.attenuate import Attenuate
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import zero
from saebench.interventions.latents import Latents
from saebench.interventions.places import Places
from saebench.interventions.posterior import Posterior
from saebench.interventions.suppress import RangeMask, Scale
from saebench.lm.batching import to_device
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.tasks.concept_suppression.data import Part

METHODS = ("app", "zero", "range", "partial")


@dataclass(frozen=True)
class TokenValues:
    """Some latents at all tokens of the examples to fit on that are not special."""

    sae: SAE
    latents: NDArray[np.int64]  # ascending
    values: Float[Tensor, "tokens latents"]  # on the CPU
    labels: Int[Tensor, " tokens"]  # concept of the token's example
    budget: int  # bytes for blocks of [tokens, d_sae]

    @classmethod
    def of(cls, sae: SAE, latents: NDArray[np.int64], part: Part, context: TaskContext, length: int) -> TokenValues:
        """One encoding of the examples, for all concepts."""
        chosen = np.unique(latents)
        reader = Latents(sae, chosen.tolist(), error="kept", budget=context.budget.encoder)
        labels, values, of_example = [], [], torch.from_numpy(part.labels)
        for x, example in context.examples(part.texts, length).tokens(sae.hook.site_in):
            given = to_device(x, context.lm.device)[None]
            everywhere = Places.of(torch.ones(given.shape[:2], dtype=torch.bool, device=given.device))
            values.append(reader.read(given, given, everywhere).values.cpu())
            labels.append(of_example[example])
        return cls(sae, chosen, torch.cat(values), torch.cat(labels), reader.budget)

    def suppress(
        self, latents: NDArray[np.int64], concept: int, methods: Sequence[str], parameters: dict[str, Any]
    ) -> dict[str, Intervention]:
        """Each method on ``latents``; they share one `Latents`, so that passes encode once for all."""
        given = Latents(self.sae, latents.tolist(), error="kept", budget=self.budget)
        f = self.values[:, torch.from_numpy(np.searchsorted(self.latents, latents))]
        return {method: self._one(method, given, f, concept, parameters) for method in methods}

    def _one(self, method: str, latents: Latents, f: Tensor, concept: int, parameters: dict[str, Any]) -> Intervention:
        if method == "zero":
            return zero(latents)
        if method == "partial":
            return Scale(latents, parameters["partial_factor"])
        if method == "range":
            return _range_mask(latents, f[self.labels == concept], parameters["range_tau"])
        n_classes = int(self.labels.max()) + 1
        return Attenuate(latents, Posterior.fit(f, self.labels, concept, n_classes=n_classes))


def _range_mask(latents: Latents, f: Float[Tensor, "tokens n"], tau: float) -> RangeMask:
    """Mean and spread over the concept's tokens at which the latent is not 0; for neurons those are all tokens."""
    f = f.double()
    active = f != 0
    n = active.sum(0).clamp(min=1)
    mean = f.sum(0) / n
    sd = (((f - mean) * active).square().sum(0) / n).sqrt()
    return RangeMask(latents, mean.tolist(), sd.tolist(), tau=tau)
