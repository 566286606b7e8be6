"""The base of all interventions on latents, which read the latents, change them, and write the activation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.errors import UsageError
from saebench.interventions.base import check_input, source_of
from saebench.interventions.latents import Latents, Reading
from saebench.interventions.places import Places


class LatentEdit(ABC):
    """An intervention that changes latents of an SAE. Subclasses define the change and describe its settings."""

    kind: ClassVar[str]
    looks: bool = True  # whether the change depends on the latents' values
    whole: bool = False  # whether the change depends on later tokens

    def __init__(self, latents: Latents) -> None:
        self.latents = latents
        self._begun = False

    @property
    def site(self) -> str:
        """The hook that the SAE reconstructs."""
        return self.latents.sae.hook.site_out

    @property
    def reads(self) -> str:
        """The hook that the SAE encodes, or ``site`` if the latents' values do not matter."""
        return self.latents.sae.hook.site_in if self._encodes else self.site

    @property
    def causal(self) -> bool:
        """Whether the change of a token depends only on this token and earlier ones."""
        return not self.whole and (self.latents.position_wise or not self._encodes)

    @torch.no_grad()
    def __call__(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
        """Return the changed activation; see `saebench.interventions.base.Intervention`.

        Raises:
            UsageError: It is not causal and is called again without ``reset()``.
            HookMismatchError: The activation has another width.
            NotApplicableError: It needs a ``source``, and there is none.
        """
        check_input(self.site, self.latents.sae.d_out, x, mask)
        if self._begun and not self.causal:
            why = "its gate" if self.whole else self.latents.sae.name
            raise UsageError(
                f"{self.kind} cannot go on with a text token by token, because {why} looks at all of it; use a running "
                "gate and a position-wise SAE in generation, and call reset() between texts."
            )
        self._begun = True
        return self.rewrite(self.read(x, mask, source))

    def read(self, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Reading:
        """Return what ``rewrite`` needs. All edits of the same latents can share it, so that a sweep encodes once."""
        places = Places.of(mask)
        if not self._encodes:
            return self.latents.unread(x, places)
        return self.latents.read(x, source_of(x, source, site=self.site, reads=self.reads), places)

    @torch.no_grad()
    def rewrite(self, reading: Reading) -> Float[Tensor, "batch position d_out"]:
        """Return the activation changed by this edit. The reading itself does not change."""
        return self.latents.write(reading, self.change(reading.values, reading.places))

    def reset(self) -> None:
        """Forget the positions read so far."""
        self._begun = False

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the change, ready for JSON."""
        return {"kind": self.kind, "site": self.site, "reads": self.reads, **self.latents.describe(), **self.settings()}

    @abstractmethod
    def change(self, f: Float[Tensor, "tokens n"], places: Places) -> Float[Tensor, "tokens n"]:
        """Return f' - f, which must be exactly 0 where a latent does not change."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what determines the change in addition to the latents, ready for JSON."""

    @property
    def _encodes(self) -> bool:
        return self.latents.error == "dropped" or (self.looks and len(self.latents) > 0)


def fires(f: Tensor, threshold: float = 0.0) -> Tensor:
    """Return where latents are active: where |f| > threshold, which for non-negative latents means f > threshold."""
    return f.abs() > threshold
