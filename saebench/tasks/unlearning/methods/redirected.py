"""A control of directions: latents that are read as they are, and written along decoder rows of other latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import DataError
from saebench.interventions.base import Intervention
from saebench.interventions.clamp import Clamp
from saebench.interventions.guardrail import DynamicGuardrail
from saebench.interventions.latents import Latents
from saebench.passes.context import TaskContext
from saebench.sae.protocol import SAE, fingerprint_of
from saebench.tasks.unlearning.methods.clamps import latents_of
from saebench.tasks.unlearning.methods.sweep import UnlearningSweep
from saebench.tasks.unlearning.selection import LatentStatistics


class RedirectedLatents(Latents):
    """Some latents of an SAE with a linear decoder, the error kept, whose decoder rows are replaced.

    Edits see the values of the latents, so gates open and clamps act at the same tokens as those of the latents
    themselves. Only the directions along which a change is written are others.
    """

    def __init__(self, latents: Latents, rows: Float[Tensor, "n d_out"]) -> None:
        """Write ``latents`` along ``rows``."""
        super().__init__(latents.sae, latents.indices, error="kept", budget=latents.budget)
        self._rows = rows.float()

    @property
    def directions(self) -> Float[Tensor, "n d_out"]:
        return self._rows

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "directions": fingerprint_of({"directions": self._rows}, {})}


def other_rows(
    sae: SAE, statistics: LatentStatistics, indices: Sequence[int], rng: np.random.Generator
) -> Float[Tensor, "n d_out"]:
    """Decoder rows of latents drawn at random, other than ``indices``, each as long as the row that it replaces.

    A row of an SAE whose decoder says nothing, such as a random or a permuted one, is as good as any other row of it.
    So the difference that these rows make is 0 in expectation for such an SAE, whatever its decoder is made of.

    Raises:
        DataError: The SAE has fewer other latents than ``indices``.
    """
    ranked = np.argsort(-statistics.mean, kind="stable")
    others = ranked[~np.isin(ranked, indices)]
    if len(others) < len(indices):
        raise DataError(
            f"{sae.name} has {sae.d_sae} latents, too few to draw {len(indices)} random directions beside those that "
            "were selected; use fewer latents."
        )
    every = sae.decoder_directions().detach().float()
    chosen = every[torch.from_numpy(rng.choice(others, len(indices), replace=False)).to(every.device)]
    length = every[torch.tensor(list(indices), device=every.device)].norm(dim=1, keepdim=True)
    norm = chosen.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, chosen / norm.clamp(min=torch.finfo(torch.float32).tiny), chosen) * length


def redirected(
    sweep: UnlearningSweep, sae: SAE, context: TaskContext, statistics: LatentStatistics, rng: np.random.Generator
) -> UnlearningSweep:
    """The same edits of the same latents at the same tokens, written along rows drawn by `other_rows`.

    Raises DataError for an SAE that has too few latents.
    """
    if not sweep.changes:
        return sweep
    latents = latents_of(sae, context, np.array(sweep.latents, np.int64))
    written = RedirectedLatents(latents, other_rows(sae, statistics, sweep.latents, rng))
    return replace(sweep, changes=tuple(_along(change, written) for change in sweep.changes))


def _along(change: Intervention, latents: Latents) -> Intervention:
    """The same edit of other `Latents`."""
    if isinstance(change, DynamicGuardrail):
        return DynamicGuardrail(latents, tau=change.tau, value=change.value, scope=change.scope)
    assert isinstance(change, Clamp)
    return Clamp(latents, change.value, threshold=change.threshold)
