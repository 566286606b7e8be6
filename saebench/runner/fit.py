"""Whether hook points and SAEs fit the language model, as far as files tell it before the weights are loaded."""

from __future__ import annotations

from collections.abc import Iterable

from saebench.errors import HookMismatchError
from saebench.lm.reference import LMRef
from saebench.lm.site import parse_site
from saebench.runner.shape import Shape
from saebench.sae.reference import SAERef
from saebench.synthetic.reference import HOOK

_OF_WIDTH = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_mlp_out", "hook_attn_out")


def chosen_hook(named: str | None, refs: Iterable[SAERef]) -> str | None:
    """Return the hook point for controls that name none: the one that the user names, or else one of the SAEs' schemes.

    Where several are suggested, the first in alphabetical order is taken, whatever the order of the SAEs.
    """
    if named is not None:
        return named
    suggested = {(ref.inner or ref).hook_for_controls for ref in refs}
    return min((hook for hook in suggested if hook), default=None)


def check_named_hooks(hook: str | None, refs: Iterable[SAERef], model: LMRef, shape: Shape) -> None:
    """Check the hook points that the request names: ``--hook``, and those in references.

    Raises HookMismatchError for one that the language model cannot have.
    """
    named = [("--hook", hook)] if hook is not None else []
    named += [(str(ref), site) for ref in refs for site in ref.named_sites]
    for where, site in named:
        if problem := _problem(site, None, model, shape):
            raise HookMismatchError(f"{where}: {problem}")


def misfits(refs: Iterable[SAERef], model: LMRef, shape: Shape, default: str | None) -> dict[SAERef, str]:
    """Return the SAEs that cannot be used with the language model, each with the reason in one sentence.

    Args:
        refs: The SAEs.
        model: The language model.
        shape: What is known of it.
        default: The hook point of controls that name none, where it is known.
    """
    reasons = {}
    for ref in refs:
        hook = ref.site(default)
        sites: dict[str, int | None] = {}
        if hook is not None:
            width = None if ref.width is None else ref.width // len(hook.sites_in)
            sites = dict.fromkeys(hook.sites) | dict.fromkeys(hook.sites_in, width)
        problems = (_problem(site, width, model, shape) for site, width in sites.items())
        if problem := next(filter(None, problems), ""):
            reasons[ref] = f"{ref}: {problem}"
    return reasons


def _problem(name: str, width: int | None, model: LMRef, shape: Shape) -> str:
    """Return why an SAE of this width cannot read at a hook point; empty if nothing is known against it."""
    if model.synthetic or name == HOOK:
        return _problem_of_kind(name, model)
    try:
        site = parse_site(name)
    except HookMismatchError as error:
        return str(error)
    if shape.n_layers is not None and site.layer >= shape.n_layers:
        return f"There is no hook {name!r}: {model} has {shape.n_layers} blocks, 0 to {shape.n_layers - 1}."
    if None not in (width, shape.width) and site.kind in _OF_WIDTH and width != shape.width:
        return (
            f"It expects {width} dimensions at {name}, but {model} has {shape.width} there; choose the model that the "
            "SAE was trained on."
        )
    return ""


def _problem_of_kind(name: str, model: LMRef) -> str:
    """Return why a hook point does not belong to a model where one of them, or both, is synthetic; empty if it does."""
    if not model.synthetic:
        return (
            f"It is made for a synthetic model, and {model} is a language model; name a synthetic one with --model, "
            "such as synthetic:small."
        )
    if name != HOOK:
        return f"{model} is a synthetic model, whose only hook point is {HOOK!r}, and not {name!r}."
    return ""
