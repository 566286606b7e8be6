"""Where the SAEs of a plan read and write, as far as it is known before any of them is loaded."""

from __future__ import annotations

from saebench.errors import HookMismatchError
from saebench.lm.site import start_of
from saebench.runner.fit import chosen_hook
from saebench.runner.plan import Plan
from saebench.runner.shape import shape_of
from saebench.sae.hook import HookSite
from saebench.sae.reference import SAERef
from saebench.synthetic.reference import HOOK

MIDDLE = "the middle of the model"  # the default hook in a model whose depth is not known before it is loaded


def by_hook(plan: Plan) -> dict[HookSite | None, tuple[SAERef, ...]]:
    """The plan's single SAEs by their hook. SAEs whose hook only loading tells are under None."""
    depth = shape_of(plan.model).n_layers
    if depth is None and not plan.model.synthetic:
        default = chosen_hook(plan.request.hook, plan.refs) or MIDDLE
    else:
        default = default_hook(plan, depth or 0)
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
    sites = (site for hook in known_hooks(plan, default) for site in hook.sites)
    return tuple(dict.fromkeys(site for site in sites if restart_of(site) is not None))


def known_hooks(plan: Plan, default: str) -> tuple[HookSite, ...]:
    """The hooks that the plan's SAEs are known to have before they are loaded; ``default`` as in `known_sites`."""
    hooks = (ref.site(default) for ref in plan.refs)
    return tuple(dict.fromkeys(hook for hook in hooks if hook is not None))


def default_hook(plan: Plan, n_layers: int) -> str:
    """The hook point of controls that name none: ``--hook``, else that of the zoo, else the middle of the model.

    A synthetic model has only one hook point.
    """
    if plan.model.synthetic:
        return HOOK
    return chosen_hook(plan.request.hook, plan.refs) or f"blocks.{n_layers // 2}.hook_resid_post"


def restart_of(*sites: str) -> int | None:
    """The block from which a pass goes on after a splice at ``sites``; None if one of them cannot be spliced."""
    try:
        return start_of(sites).restart
    except HookMismatchError:
        return None
