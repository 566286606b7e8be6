"""The hook points that an SAE may have been trained at in place of its own."""

from __future__ import annotations

from collections.abc import Iterator

from saebench.lm.site import Site, parse_site
from saebench.sae.hook import HookSite

_OF_BLOCK = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_mlp_out", "hook_attn_out")
_RESIDUAL = _OF_BLOCK[:3]


def other_hooks(hook: HookSite) -> list[HookSite]:
    """Return the hooks that are easily taken for another: one block off, or another place in the same block.

    For a transcoder both hook points are one block off, or it reads another place of the residual stream. No two of
    them are the same activations, and none is the hook itself.

    >>> [str(other) for other in other_hooks(HookSite.at("blocks.3.hook_resid_post"))][:3]
    ['blocks.2.hook_resid_post', 'blocks.4.hook_resid_post', 'blocks.3.hook_resid_mid']
    """
    places = dict.fromkeys(_place(other) for other in _candidates(hook))
    places.pop(_place(hook), None)
    return list(places)


def _candidates(hook: HookSite) -> Iterator[HookSite]:
    read, written = parse_site(hook.site_in), parse_site(hook.site_out)
    for step in (-1, 1):
        if min(read.layer, written.layer) + step >= 0:
            yield HookSite(_name(read.layer + step, read.kind), _name(written.layer + step, written.kind))
    if hook.crosses:
        for kind in _RESIDUAL:
            yield HookSite(_name(read.layer, kind), hook.site_out)
    elif read.kind in _OF_BLOCK:
        for kind in _OF_BLOCK:
            yield HookSite.at(_name(read.layer, kind))


def _name(layer: int, kind: str) -> str:
    return f"blocks.{layer}.{kind}"


def _place(hook: HookSite) -> HookSite:
    """The hook under one name: the input of a block is called the output of the one before."""
    return HookSite(_same(parse_site(hook.site_in)), _same(parse_site(hook.site_out)))


def _same(site: Site) -> str:
    if site.kind == "hook_resid_pre" and site.layer > 0:
        return _name(site.layer - 1, "hook_resid_post")
    return _name(site.layer, site.kind)
