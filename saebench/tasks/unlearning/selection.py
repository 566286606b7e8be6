"""Which latents are changed, found on the part `fit` alone, and how large they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saebench.interventions.edit import fires
from saebench.interventions.latents import Latents
from saebench.interventions.places import Places
from saebench.lm.batching import to_device
from saebench.passes.activity import activity
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE
from saebench.stats.selection import sparsity_ratio, squared_mean_ratio
from saebench.tasks.unlearning.texts import Part

SELECTIONS = ("sparsity_ratio", "squared_mean_ratio")


@dataclass(frozen=True, eq=False)
class Statistics:
    """What each latent does on the part `fit`, ``[d_sae]`` each: shares of tokens, and means."""

    forget_rate: NDArray[np.float64]
    retain_rate: NDArray[np.float64]
    forget_mean: NDArray[np.float64]
    retain_mean: NDArray[np.float64]
    size: NDArray[np.float64]  # mean over the tokens of the forget text at which the latent fires

    @classmethod
    def of(cls, sae: SAE, context: TaskContext, part: Part, length: int) -> Statistics:
        """Raises what `activity` raises."""
        forget, retain = (activity(sae, context, texts, length) for texts in (part.forget, part.retain))
        means = (forget.mean(), retain.mean(), forget.mean_when_firing())
        return cls(forget.token_rate(), retain.token_rate(), *means)

    def select(self, selection: str, n: int, parameters: dict[str, Any]) -> NDArray[np.int64]:
        """At most ``n`` latents, the best first; none when none passes."""
        if selection == "sparsity_ratio":
            threshold = parameters["retain_threshold"]
            return sparsity_ratio(self.forget_rate, self.retain_rate, retain_threshold=threshold, n=n)
        percentile = parameters["ratio_percentile"]
        return squared_mean_ratio(self.forget_mean, self.retain_mean, ratio_percentile=percentile, n=n)

    @property
    def rate(self) -> NDArray[np.float64]:
        """Of both sides, each with the same weight: what random latents are matched in."""
        return (self.forget_rate + self.retain_rate) / 2


@torch.no_grad()
def firing_shares(
    sae: SAE, context: TaskContext, texts: Sequence[str], length: int, latents: NDArray[np.int64]
) -> NDArray[np.float64]:
    """DSG's rho of each text (2504.08192): the share of its tokens at which any of ``latents`` fires, ``[texts]``."""
    chosen = Latents(sae, latents.tolist(), error="kept", budget=context.budget.encoder)
    fired, tokens = np.zeros(len(texts)), np.zeros(len(texts))
    for x, text in context.examples(texts, length).tokens(sae.hook.site_in):
        batch = to_device(x, context.lm.device)[None]
        every = Places.of(torch.ones(batch.shape[:2], dtype=torch.bool, device=batch.device))
        values = chosen.read(batch, batch, every).values
        fired += np.bincount(text.numpy(), fires(values).any(-1).cpu().numpy(), len(texts))
        tokens += np.bincount(text.numpy(), minlength=len(texts))
    return fired / tokens
