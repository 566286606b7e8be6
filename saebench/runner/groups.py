"""What jobs share: SAEs at one hook, on one text, and the passes of the language model that they cost together.

Counted are tasks whose cards say so: they score each SAE by itself on a sampled text, in one suffix pass. The groups
here are of such jobs; the groups of SAEs that are compared with each other are those of `saebench.sae.group_ref`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from saebench.cards.settings import SampledSettings
from saebench.data import assets
from saebench.errors import HookMismatchError
from saebench.lm.reference import LMRef
from saebench.lm.site import parse_site
from saebench.runner.plan import Plan, TaskPlan
from saebench.sae.protocol import HookSite
from saebench.sae.reference import SAERef
from saebench.sae.sites import site_of
from saebench.sae.zoo import zoo_card

MIDDLE = "the middle of the model"  # of a model whose depth is not known before it is loaded
_DEPTH = ("num_hidden_layers", "n_layer", "num_layers")


class Sampling(NamedTuple):
    """What one pass of the language model goes over."""

    text: str
    context_length: int
    sequences: int

    @property
    def tokens(self) -> int:
        """At most: a short text gives fewer."""
        return self.context_length * self.sequences


@dataclass(frozen=True)
class Group:
    """The SAEs at one hook, on one sampling of a text, for each seed. Counts are passes of the language model.

    The full pass that gives the clean losses, and the activations at all known hooks at once, is not among them:
    there is one for each sampling.
    """

    hook: HookSite | None  # None: told by the SAE when it is loaded, for each SAE its own
    sampling: Sampling
    saes: tuple[SAERef, ...]
    captures: int  # prefix passes to hooks that the full pass could not know (at most)
    ablations: int  # suffix passes with zeros and the mean at the hook (at most, where it is not known)
    splices: int  # suffix passes, one for each SAE and task

    @property
    def passes(self) -> int:
        return self.captures + self.ablations + self.splices

    @property
    def tokens(self) -> int:
        """Tokens of all passes, at most."""
        return self.passes * self.sampling.tokens


def samplings(plan: Plan) -> dict[Sampling, int]:
    """The samplings of the plan's texts, and how many tasks read each. Tasks that are not counted are left out."""
    found: dict[Sampling, int] = {}
    for task in plan.tasks:
        if is_counted(task):
            assert isinstance(task.settings, SampledSettings)
            sampling = Sampling(task.settings.text, task.settings.context_length, task.settings.sequences)
            found[sampling] = found.get(sampling, 0) + 1
    return found


def is_counted(task: TaskPlan) -> bool:
    """Whether the passes of a task are known before it runs."""
    return task.passes_counted and isinstance(task.settings, SampledSettings)


def by_hook(plan: Plan) -> dict[HookSite | None, tuple[SAERef, ...]]:
    """The plan's single SAEs by the hook that is known for them, None for those that only loading tells."""
    depth = depth_of(plan.model)
    default = (_named_hook(plan) or MIDDLE) if depth is None else default_hook(plan, depth)
    found: dict[HookSite | None, list[SAERef]] = {}
    for ref in plan.saes:
        found.setdefault(site_of(ref, default), []).append(ref)
    return {hook: tuple(saes) for hook, saes in found.items()}


def groups(plan: Plan) -> list[Group]:
    """The groups of one seed, in the order of the SAEs. Loads nothing. Raises AssetError for a damaged model asset."""
    hooks, made = by_hook(plan), []
    for sampling, n_tasks in samplings(plan).items():
        ablated: set[str] = set()  # ablations are those of the site that is written
        for hook, saes in hooks.items():
            unknown = len(saes) if hook is None else 0
            ablations = 2 * unknown if hook is None else 2 * (hook.site_out not in ablated)
            made.append(Group(hook, sampling, saes, unknown, ablations, len(saes) * n_tasks))
            ablated |= {hook.site_out} if hook else set()
    return made


def sites(plan: Plan, default_hook: str) -> tuple[str, ...]:
    """All sites that the plan's SAEs are known to read or write, so that one pass of a text captures them at once.

    They hold for every sampling and seed. Names that no model can have are left out (loading that SAE says so), but
    a site may still be missing in the plan's model, and sites inside a block need its input as well.
    """
    found: dict[str, None] = {}
    for ref in plan.refs:
        if hook := site_of(ref, default_hook):
            found |= dict.fromkeys(site for site in (hook.site_in, hook.site_out) if restart_of(site) is not None)
    return tuple(found)


def fitted(plan: Plan) -> tuple[SAERef, ...]:
    """The single SAEs that are fitted to activations: one calibration pass of each text serves them all."""
    return tuple(ref for ref in plan.saes if is_fitted(ref))


def is_fitted(ref: SAERef) -> bool:
    """Whether the SAE is fitted to activations when it is loaded."""
    return is_fitted(ref.inner) if ref.inner else ref.scheme == "baseline" and ref.body in ("pca", "random")


def default_hook(plan: Plan, n_layers: int) -> str:
    """The site of controls that name none: ``--hook``, else that of the zoo, else the middle of the model."""
    return _named_hook(plan) or f"blocks.{n_layers // 2}.hook_resid_post"


def restart_of(site: str) -> int | None:
    """The block from which a pass goes on after a splice at ``site``; None for a site that cannot be spliced."""
    try:
        return parse_site(site).restart
    except HookMismatchError:
        return None


def depth_of(model: LMRef) -> int | None:
    """Blocks of the model as its ``config.json`` tells; None where there is none on this disk that says so."""
    if model.scheme == "hf":
        return None
    folder = assets.status(model.name).path if model.scheme == "asset" else Path(model.name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not fetched yet, or damaged: loading the model says so
        return None
    parts = [config, config.get("text_config")] if isinstance(config, dict) else []  # the latter: multimodal models
    depths = [part[key] for part in parts if isinstance(part, dict) for key in _DEPTH if isinstance(part.get(key), int)]
    return depths[0] if depths else None


def _named_hook(plan: Plan) -> str | None:
    if plan.request.hook is not None:
        return plan.request.hook
    for ref in plan.refs:
        target = ref.inner or ref
        if target.scheme == "zoo" and (hook := zoo_card(target.body).get("hook")):
            return str(hook)
    return None
