"""Where the SAEs of a plan read and write, as far as it is known before any of them is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from saebench.data import assets
from saebench.errors import HookMismatchError
from saebench.lm.reference import LMRef
from saebench.lm.site import parse_site
from saebench.runner.plan import Plan
from saebench.sae.hook import HookSite
from saebench.sae.reference import SAERef

MIDDLE = "the middle of the model"  # the default hook in a model whose depth is not known before it is loaded
_DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers")


def by_hook(plan: Plan) -> dict[HookSite | None, tuple[SAERef, ...]]:
    """The plan's single SAEs by their hook. SAEs whose hook only loading tells are under None."""
    depth = depth_of(plan.model)
    default = (_chosen_hook(plan) or MIDDLE) if depth is None else default_hook(plan, depth)
    saes: dict[HookSite | None, list[SAERef]] = {}
    for ref in plan.saes:
        saes.setdefault(ref.site(default), []).append(ref)
    return {hook: tuple(refs) for hook, refs in saes.items()}


def known_sites(plan: Plan, default: str) -> tuple[str, ...]:
    """All hook points that the plan's SAEs are known to read or write, so that one pass of a text captures them all.

    They are the same for every sampling of a text and every seed. Names that no model can have are left out (loading
    that SAE reports them). A hook point may still be missing in the plan's model, and one inside a block also needs the
    input of that block. ``default`` is the hook point of controls that name none.
    """
    known: dict[str, None] = {}
    for ref in plan.refs:
        if hook := ref.site(default):
            known |= dict.fromkeys(site for site in (hook.site_in, hook.site_out) if restart_of(site) is not None)
    return tuple(known)


def default_hook(plan: Plan, n_layers: int) -> str:
    """The hook point of controls that name none: ``--hook``, else that of the zoo, else the middle of the model."""
    return _chosen_hook(plan) or f"blocks.{n_layers // 2}.hook_resid_post"


def restart_of(site: str) -> int | None:
    """The block from which a pass goes on after a splice at ``site``; None if ``site`` cannot be spliced."""
    try:
        return parse_site(site).restart
    except HookMismatchError:
        return None


def depth_of(model: LMRef) -> int | None:
    """The number of blocks that the model's ``config.json`` names; None if no such file is on this disk."""
    if model.scheme == "hf":
        return None
    folder = assets.status(model.name).path if model.scheme == "asset" else Path(model.name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the model is not fetched yet, or is damaged, which loading it reports
        return None
    # Multimodal models describe their language model in `text_config`.
    parts = [config, config.get("text_config")] if isinstance(config, dict) else []
    depths = (part.get(key) for part in parts if isinstance(part, dict) for key in _DEPTH_KEYS)
    return next((depth for depth in depths if isinstance(depth, int)), None)


def _chosen_hook(plan: Plan) -> str | None:
    """The hook point for controls that the user names, or else the first that the scheme of an SAE suggests."""
    if plan.request.hook is not None:
        return plan.request.hook
    suggested = ((ref.inner or ref).hook_for_controls for ref in plan.refs)
    return next((hook for hook in suggested if hook), None)
