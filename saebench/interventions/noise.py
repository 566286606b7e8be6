"""A control without content: noise that has the norm of another intervention's change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from saebench.interventions.base import Intervention
from saebench.interventions.memory import Running
from saebench.interventions.places import Places
from saebench.stats import rng


class EqualNormNoise:
    """Noise of equal norm: x' = x + ||inner(x) - x|| u, where u is a random unit vector for each place in a text.

    Places are counted over the tokens of the mask, so padding and the division of a text into calls do not matter. All
    texts get the same directions. Tokens that the other intervention does not change stay bit-equal.
    """

    def __init__(self, inner: Intervention, seed: int) -> None:
        """Build the control of the intervention ``inner``, with directions drawn by ``seed``."""
        self.inner, self.seed = inner, seed
        self._seen = Running("sum", "running")
        self._directions: list[Tensor] = []

    @property
    def site(self) -> str:
        """The hook at which the other intervention acts."""
        return self.inner.site

    @property
    def reads(self) -> str:
        """The hook that the other intervention reads."""
        return self.inner.reads

    @property
    def causal(self) -> bool:
        """Whether the other intervention is causal."""
        return self.inner.causal

    @torch.no_grad()
    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        """Return the changed activation."""
        change = self.inner(x, mask, source).float() - x.float()
        places = Places.of(mask)
        if not len(places.index):
            return x
        place = places.at(self._seen(mask[..., None].double()))[:, 0].long() - 1
        norms = places.at(change).norm(dim=-1, keepdim=True)
        old = places.at(x)
        new = old.float() + norms * self._unit(place, x.shape[-1])
        return places.put(x, torch.where(norms > 0, new.to(x.dtype), old))

    def reset(self) -> None:
        """Forget the positions read so far."""
        self.inner.reset()
        self._seen.reset()

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the change, ready for JSON."""
        return {"kind": "equal_norm_noise", "site": self.site, "seed": self.seed, "inner": self.inner.describe()}

    def _unit(self, place: Tensor, width: int) -> Tensor:
        for new in range(len(self._directions), int(place.max()) + 1):
            drawn = rng.generator(self.seed, "equal_norm_noise", rng.NO_CONTENT, new).standard_normal(width)
            self._directions.append(torch.from_numpy(drawn / np.linalg.norm(drawn)).float())
        return torch.stack([self._directions[number] for number in place.tolist()]).to(place.device)
