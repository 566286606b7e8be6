"""Sites: places in a language model by their TransformerLens names, and where a pass can restart for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from saebench.errors import HookMismatchError, did_you_mean

_PATTERN = re.compile(
    r"blocks\.([0-9]{1,9})\.(hook_resid_pre|hook_resid_mid|hook_resid_post|hook_mlp_out|hook_attn_out|attn\.hook_z)"
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
    """One place in the model, such as ``blocks.9.hook_resid_post``."""

    name: str
    layer: int
    kind: str

    @property
    def restart(self) -> int:
        """The block from which the model has to be run again when the activation here changes."""
        return self.layer + 1 if self.kind == "hook_resid_post" else self.layer

    @property
    def boundary(self) -> bool:
        """Whether the activation here is the residual stream that enters the block `restart`.

        Any other site lies inside that block, which is run again from its own input, and the activation is replaced on
        the way.
        """
        return self.kind in ("hook_resid_pre", "hook_resid_post")


def parse_site(name: str) -> Site:
    """Parse the name of a hook point. Raises HookMismatchError if it is not of a supported kind."""
    match = _PATTERN.fullmatch(name)
    if match is None:
        number = re.search("[0-9]{1,9}", name)
        examples = [f"blocks.{number[0] if number else 0}.{kind}" for kind in _KINDS]
        hint = did_you_mean(name, examples)
        raise HookMismatchError(
            f"{name!r} is not a hook that saebench can splice; use blocks.LAYER.KIND, where KIND is one of "
            f"{', '.join(_KINDS)}.{hint}"
        )
    return Site(name, int(match.group(1)), match.group(2))
