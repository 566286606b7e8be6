"""The intervention that replaces the activation by the SAE's reconstruction."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from saebench.interventions.edit import LatentEdit
from saebench.interventions.latents import Latents
from saebench.interventions.places import Places
from saebench.sae.protocol import SAE


class Splice(LatentEdit):
    """The splice x' = decode(f): no latent is changed, and the SAE's error is dropped."""

    kind: ClassVar[str] = "splice"

    def __init__(self, sae: SAE) -> None:
        super().__init__(Latents(sae, [], error="dropped"))

    def change(self, f: Tensor, places: Places) -> Tensor:
        return torch.zeros_like(f)

    def settings(self) -> dict[str, Any]:
        return {}
