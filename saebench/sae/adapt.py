"""SAEs that code outside saebench made: what they must have, and what they are given."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from saebench.errors import SAELoadError
from saebench.sae.objects import is_object
from saebench.sae.protocol import REQUIRED_MEMBERS, SAE

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext


def as_sae(built: object, name: str, context: LoadContext | None = None) -> SAE:
    """Return ``built`` as an SAE: itself if it fulfils the protocol, or an adapter of it.

    An adapter is made for an SAE of SAELens and, with a context, for any object with ``encode`` and ``decode``.

    An SAE that does not say whether it is a control is none. Its fingerprint is replaced by one that covers what it
    does, because the code that made it may be edited.

    Args:
        built: What a factory or a third-party scheme returned.
        name: The reference, for error messages and as the name of an adapted SAE.
        context: The hook point and the width for an object that does not tell its own.

    Raises:
        SAELoadError: Members of the protocol are missing, or the object takes no attributes; for an object with only
            ``encode`` and ``decode`` as in `saebench.sae.object_adapter.adapt_object`.
    """
    from saebench.sae.behaviour import cover_behaviour

    if "sae_lens" in sys.modules:  # an instance of it cannot exist before its import
        from sae_lens import SAE as LensSAE

        if isinstance(built, LensSAE):
            from saebench.sae.sae_lens_adapter import SAELensAdapter

            adapted = SAELensAdapter(built, name)
            cover_behaviour(adapted, name)
            return adapted
    missing = [member for member in REQUIRED_MEMBERS if not hasattr(built, member)]
    if missing and context is not None and is_object(built):
        from saebench.sae.object_adapter import adapt_object

        return adapt_object(built, name, context)
    if missing:
        raise SAELoadError(
            f"{name} gave an object of type {type(built).__name__}, which lacks {', '.join(missing)} of "
            "saebench.sae.protocol.SAE; a subclass of saebench.sae.base.BaseAdapter has most of them."
        )
    set_default_control(built, name)
    sae = cast(SAE, built)
    cover_behaviour(sae, name)
    return sae


def set_default_control(sae: Any, name: str) -> None:
    """Set ``control = False`` on an SAE that lacks the attribute. Raises SAELoadError where it cannot be set."""
    if hasattr(sae, "control"):
        return
    try:
        sae.control = False
    except AttributeError as error:  # a frozen dataclass, or a class with slots
        raise SAELoadError(
            f"{name}: {type(sae).__name__} has no attribute `control`, and none can be set; add `control = False` to "
            "the class."
        ) from error
