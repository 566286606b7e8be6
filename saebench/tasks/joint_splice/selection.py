"""The members of a group in the order of the forward pass."""

from __future__ import annotations

from saebench.errors import NotApplicableError
from saebench.evaluation import SAEGroup
from saebench.lm.site import parse_site
from saebench.sae.protocol import SAE


def in_order(group: SAEGroup) -> tuple[SAE, ...]:
    """Return the SAEs of a group, that which writes first in front.

    Raises NotApplicableError for two SAEs that write at one hook point, because only one of them can replace it.
    """
    first_at: dict[str, SAE] = {}
    for sae in group.saes:
        if (other := first_at.setdefault(sae.hook.site_out, sae)) is not sae:
            raise NotApplicableError(
                f"{other.name} and {sae.name} of group {group.name} both write at {sae.hook.site_out}, where only one "
                "of them can be spliced in; name SAEs of different hook points."
            )
    return tuple(sorted(first_at.values(), key=lambda sae: parse_site(sae.hook.site_out).order))
