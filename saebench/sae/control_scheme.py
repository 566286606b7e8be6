"""What the schemes of controls share: an SAE made at one hook point of the language model, or around another SAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.errors import SAELoadError
from saebench.sae.hook import HookSite
from saebench.sae.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from saebench.sae.base import LoadContext
    from saebench.sae.ref import Reference


class ControlScheme(Scheme):
    """A scheme with bodies ``KIND``, for SAEs made for a hook point, and ``KIND(REF)``, for changes of another SAE."""

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        if inner := ref.inner:
            return inner.site(default)
        site = dict(ref.options).get("hook") or default
        return HookSite.at(site) if site else None

    def width(self, ref: Reference) -> int | None:
        return ref.inner.width if ref.inner else None

    def control(self, ref: Reference) -> str:
        return ref.body.partition("(")[0] if ref.inner else ref.body


def one_site(name: str, site: str | None, context: LoadContext) -> HookSite:
    """Return the one hook point of a control. Raises SAELoadError where the run's SAEs read and write elsewhere."""
    if site is not None:
        return HookSite.at(site)
    if context.hook is None or context.hook.site_in != context.hook.site_out:
        raise SAELoadError(f"{name} needs one site to read and write; add ?hook=blocks.9.hook_resid_post to it.")
    return context.hook


def width_at(name: str, hook: HookSite, context: LoadContext) -> int:
    """Return the width of the language model at a hook point. Raises SAELoadError without a language model."""
    if context.d_in is None:
        raise SAELoadError(f"{name} takes its width from a language model; name one with --model.")
    return context.d_in(hook.site_in)


def fitting_activations(name: str, hook: HookSite, context: LoadContext) -> Tensor:
    """Return the activations that a control is fitted to.

    Raises SAELoadError without a language model, and where its text gives no activations.
    """
    if context.calibration is None:
        raise SAELoadError(f"{name} is fitted to activations; name a language model and a text to take them from.")
    activations = context.calibration(hook.site_in)
    if not len(activations):
        raise SAELoadError(
            f"{name} has no activations to be fitted to: the language model knows none of the words of the calibration "
            "text; name a text in its language with --text."
        )
    return activations
