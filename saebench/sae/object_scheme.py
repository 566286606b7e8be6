"""The scheme ``object:``, under which a run knows the objects of a Python program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saebench.sae.hook import HookSite
from saebench.sae.objects import held_object, own_hook, own_number
from saebench.sae.options import read_options
from saebench.sae.scheme import Scheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference


class ObjectScheme(Scheme):
    """``object:NAME``, for the objects that a call of `saebench.run` was given."""

    name = "object"

    def validate(self, ref: Reference) -> None:
        held_object(ref)
        read_options(ref, {})

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.object_adapter import adapt_object

        return adapt_object(held_object(ref), str(ref), context)

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        return own_hook(held_object(ref), str(ref)) or (HookSite.at(default) if default else None)

    def width(self, ref: Reference) -> int | None:
        return own_number(held_object(ref), "d_in")

    def control(self, ref: Reference) -> str | None:
        return "object" if getattr(held_object(ref), "control", False) is True else None
