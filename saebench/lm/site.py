"""Hook sites: TransformerLens names of places in a language model, and where a pass can restart for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from saebench.errors import HookMismatchError, did_you_mean

_PATTERN = re.compile(
    r"blocks\.([0-9]+)\.(hook_resid_pre|hook_resid_mid|hook_resid_post|hook_mlp_out|hook_attn_out|attn\.hook_z)"
)
_KINDS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_mlp_out",
    "hook_attn_out",
    "attn.hook_z",
)


@dataclass(frozen=True)
class Site:
    """One place in the model, e.g. ``blocks.9.hook_resid_post``.

    ``restart`` is the block from which the model has to be run again when the activation here changes. A
    ``boundary`` site *is* the residual stream that enters that block; any other site lies inside it, and the
    block is run again from its own input with the activation replaced on the way.
    """

    name: str
    layer: int
    kind: str

    @property
    def restart(self) -> int:
        return self.layer + 1 if self.kind == "hook_resid_post" else self.layer

    @property
    def boundary(self) -> bool:
        return self.kind in ("hook_resid_pre", "hook_resid_post")


def parse_site(name: str) -> Site:
    """Read a hook name. Raises HookMismatchError for names that are not of a supported kind."""
    match = _PATTERN.fullmatch(name)
    if match is None:
        number = re.search("[0-9]+", name)
        examples = [f"blocks.{number[0] if number else 0}.{kind}" for kind in _KINDS]
        hint = did_you_mean(name, examples)
        raise HookMismatchError(
            f"{name!r} is not a hook that saebench can splice; use blocks.LAYER.KIND with KIND one of "
            f"{', '.join(_KINDS)}.{hint}"
        )
    return Site(name, int(match.group(1)), match.group(2))
