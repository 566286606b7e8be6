"""What a plan costs: the passes of the language model that SAEs at one hook share, on one text.

Counted are the tasks whose cards say ``passes_counted``: they score each SAE by itself on a sampled text, in one suffix
pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from saebench.cards.settings import SampledSettings
from saebench.runner.plan import Plan, TaskPlan
from saebench.runner.sites import by_hook
from saebench.sae.hook import HookSite
from saebench.sae.reference import SAERef


class Sampling(NamedTuple):
    """The sequences that one pass of the language model reads."""

    text: str
    context_length: int
    sequences: int

    @property
    def tokens(self) -> int:
        """The number of tokens, at most: a short text gives fewer."""
        return self.context_length * self.sequences


@dataclass(frozen=True)
class HookPasses:
    """The passes of the language model that the SAEs at one hook need on one sampling of a text, for each seed.

    The full pass is not among them, because there is one for each sampling: it gives the clean losses, and the
    activations at all known hooks at once.

    Attributes:
        hook: The hook, or None for SAEs whose hook only loading tells; these may all differ in it.
        sampling: The sequences.
        saes: The SAEs.
        captures: Prefix passes to hooks that the full pass could not know (at most).
        ablations: Suffix passes with zeros and with the mean at the hook (at most, if the hook is not known).
        splices: Suffix passes with a reconstruction, one for each SAE and task.
    """

    hook: HookSite | None
    sampling: Sampling
    saes: tuple[SAERef, ...]
    captures: int
    ablations: int
    splices: int

    @property
    def passes(self) -> int:
        """The number of all passes, at most."""
        return self.captures + self.ablations + self.splices

    @property
    def tokens(self) -> int:
        """The number of tokens of all passes, at most."""
        return self.passes * self.sampling.tokens


def is_counted(task: TaskPlan) -> bool:
    """Whether the passes of a task are known before it runs."""
    return task.passes_counted and isinstance(task.settings, SampledSettings)


def samplings(plan: Plan) -> dict[Sampling, int]:
    """The samplings of the plan's texts, each with the number of counted tasks that read it."""
    readers: dict[Sampling, int] = {}
    for task in plan.tasks:
        if is_counted(task):
            assert isinstance(task.settings, SampledSettings)
            sampling = Sampling(task.settings.text, task.settings.context_length, task.settings.sequences)
            readers[sampling] = readers.get(sampling, 0) + 1
    return readers


def hook_passes(plan: Plan) -> list[HookPasses]:
    """The counted passes of one seed by sampling and hook, in the order of the SAEs.

    Loads nothing. Raises AssetError for a damaged model asset.
    """
    hooks, counted = by_hook(plan), []
    for sampling, n_tasks in samplings(plan).items():
        ablated: set[tuple[str, ...]] = set()  # ablations belong to the hook points that are written
        for hook, saes in hooks.items():
            unknown = len(saes) if hook is None else 0
            ablations = 2 * unknown if hook is None else 2 * (hook.sites_out not in ablated)
            counted.append(HookPasses(hook, sampling, saes, unknown, ablations, len(saes) * n_tasks))
            ablated |= {hook.sites_out} if hook else set()
    return counted
