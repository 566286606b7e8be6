"""The protocol of interventions, which are functions from activations to activations at one hook of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from saebench.errors import HookMismatchError, NotApplicableError, SaebenchError, UsageError
from saebench.lm import intervene


@runtime_checkable
class Intervention(intervene.Intervention, Protocol):
    """An intervention with what a pass needs of it, and what a user has to know to choose one.

    It serves whole texts (suffix passes) and generation, where a text arrives one token at a time. A text may come in
    one call or in several consecutive ones: an intervention remembers what it needs of each row until ``reset()``, and
    rows keep their places between calls. A call does not modify ``x``; it returns an activation that is changed where
    ``mask`` is True and bit-equal to ``x`` elsewhere. It raises UsageError if an intervention that is not causal is
    called a second time without ``reset()``.
    """

    @property
    def causal(self) -> bool:
        """Whether the change of a token depends only on this token and earlier ones, as generation needs it."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return everything that determines the change, ready for JSON. It is part of a record's identity."""
        ...


def on_texts(intervention: Intervention, x: Tensor, mask: Tensor, source: Tensor | None = None) -> Tensor:
    """Return the activation after an intervention on whole texts, of which no token came before.

    Args:
        intervention: The intervention, which is reset first.
        x: The activation at its site, ``[batch, position, d]``.
        mask: True at the tokens that may be changed, ``[batch, position]``.
        source: The activation at the hook that it reads, if that is another one.
    """
    intervention.reset()
    return intervention(x, mask, source)


def check_input(site: str, width: int, x: Tensor, mask: Tensor) -> None:
    """Check what an intervention is called with.

    Args:
        site: The site of the intervention.
        width: The width of the activation there.
        x: The activation.
        mask: The mask of the tokens that may be changed.

    Raises:
        HookMismatchError: The activation has another shape than ``[batch, position, width]``.
        SaebenchError: The mask does not fit the activation.
    """
    if x.ndim != 3 or x.shape[-1] != width:
        raise HookMismatchError(
            f"An intervention at {site} needs an activation [batch, position, {width}], but it was given one of shape "
            f"{list(x.shape)}."
        )
    if mask.shape != x.shape[:2] or mask.dtype != torch.bool:
        raise SaebenchError(
            f"An intervention at {site} needs a mask of bool {list(x.shape[:2])}, not {mask.dtype} {list(mask.shape)}."
        )


def source_of(x: Tensor, source: Tensor | None, *, site: str, reads: str) -> Tensor:
    """Return the activation at the hook that an intervention reads.

    Args:
        x: The activation at ``site``.
        source: The activation at ``reads``, if that is another hook.
        site: The hook that the intervention changes.
        reads: The hook that it reads.

    Raises:
        NotApplicableError: ``reads`` is another hook, but there is no ``source``.
    """
    if reads == site:
        return x
    if source is None:
        raise NotApplicableError(
            f"This intervention changes {site} by what a transcoder reads at {reads}, so the activation there is "
            "needed, too."
        )
    return source


def finite(name: str, value: float) -> float:
    """Return ``value`` as a float. Raises UsageError, which calls it ``name``, if it is NaN or infinite."""
    if not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number, not {value}.")
    return float(value)


def per_latent(name: str, value: float | Sequence[float], n: int) -> list[float]:
    """Return one number for each latent.

    Args:
        name: What the numbers are called in messages.
        value: One number for all latents, or one for each of them.
        n: The number of latents.

    Raises:
        UsageError: There is another number of values, or one of them is not finite.
    """
    values = [value] * n if isinstance(value, (int, float)) else list(value)
    if len(values) != n:
        raise UsageError(f"{name} holds {len(values)} numbers for {n} latents; give one, or one for each latent.")
    return [finite(name, number) for number in values]
