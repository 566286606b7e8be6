"""Several interventions at one site, which are applied one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from saebench.errors import UsageError
from saebench.interventions.base import Intervention


class Composed:
    """A sequence of interventions, each of which acts on the result of the one before. Without any, nothing changes."""

    def __init__(self, parts: Sequence[Intervention], *, site: str | None = None) -> None:
        """Compose interventions.

        Args:
            parts: The interventions, in order.
            site: The site, which is needed if there are no interventions.

        Raises:
            UsageError: The interventions act at several sites, or read several other sites.
        """
        sites = {part.site for part in parts} | ({site} if site else set())
        if len(sites) != 1:
            raise UsageError(f"Interventions are composed at one site, not at {', '.join(sorted(sites)) or 'none'}.")
        (self.site,) = sites
        others = {part.reads for part in parts} - sites
        if len(others) > 1:
            raise UsageError(f"Interventions that read several other sites cannot be composed: {sorted(others)}.")
        self.reads = next(iter(others), self.site)
        self.parts = list(parts)

    @property
    def causal(self) -> bool:
        """Whether all parts are causal."""
        return all(part.causal for part in self.parts)

    @torch.no_grad()
    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        """Return the changed activation."""
        for part in self.parts:
            x = part(x, mask, source)
        return x

    def reset(self) -> None:
        """Forget the positions read so far."""
        for part in self.parts:
            part.reset()

    def describe(self) -> dict[str, Any]:
        """Return the descriptions of the parts, ready for JSON."""
        return {"kind": "composed", "site": self.site, "parts": [part.describe() for part in self.parts]}
