"""Sites: places in a language model by their TransformerLens names, and where a pass can restart for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from saebench.errors import HookMismatchError, did_you_mean

_PATTERN = re.compile(
    r"blocks\.([0-9]{1,9})\.(hook_resid_pre|hook_resid_mid|hook_resid_post|hook_mlp_out|hook_attn_out"
    r"|attn\.hook_z|mlp\.hook_in)"
)
_KINDS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_mlp_out",
    "hook_attn_out",
    "attn.hook_z",
    "mlp.hook_in",  # what the MLP reads, after the norm
)

_IN_A_BLOCK = (
    "hook_resid_pre",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "mlp.hook_in",
    "hook_mlp_out",
    "hook_resid_post",
)
OF_MODEL = "@"  # names the language model of a hook point, where an SAE reads more than one model


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
    def order(self) -> tuple[int, int]:
        """The place of the site in a pass: a site with a smaller one comes earlier."""
        return self.layer, _IN_A_BLOCK.index(self.kind)

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
    if match is None and _PATTERN.fullmatch(name.rpartition(OF_MODEL)[0]):
        raise HookMismatchError(
            f"{name!r} lies in one of several language models that the SAE reads, and a run has one language model; "
            "an SAE can be run only if all its hook points lie in that model (?hook= names them)."
        )
    if match is None:
        number = re.search("[0-9]{1,9}", name)
        examples = [f"blocks.{number[0] if number else 0}.{kind}" for kind in _KINDS]
        hint = did_you_mean(name, examples)
        raise HookMismatchError(
            f"{name!r} is not a hook that saebench can splice; use blocks.LAYER.KIND, where KIND is one of "
            f"{', '.join(_KINDS)}.{hint}"
        )
    return Site(name, int(match.group(1)), match.group(2))


def start_of(names: Sequence[str]) -> Site:
    """Return the site with which a pass can begin when the activations at all these sites are replaced.

    It is the last of them that lies between blocks, because its activation decides everything after it, whatever is
    replaced before it. If there is none, it is the input of the first block that holds one of the sites.

    Raises HookMismatchError for a name that `parse_site` refuses.
    """
    sites = [parse_site(name) for name in names]
    between = [site for site in sites if site.boundary]
    if between:
        return max(between, key=lambda site: site.order)
    return parse_site(f"blocks.{min(site.layer for site in sites)}.hook_resid_pre")
