"""The text of ``--dry-run``: what a plan would do, and what it costs in passes of the language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tabulate import tabulate

from saebench.budget import format_bytes
from saebench.data.split import CALIBRATION_CONTEXT, CALIBRATION_SEQUENCES
from saebench.runner.cache import cache_folder
from saebench.runner.costs import HookPasses, Sampling, hook_passes, is_counted, samplings
from saebench.runner.plan import Plan
from saebench.runner.shape import shape_of
from saebench.runner.sites import by_hook, restart_of
from saebench.sae.hook import HookSite
from saebench.safe_text import visible

_UNKNOWN = "known when the SAE is loaded"


class _Row(NamedTuple):
    where: str
    what: str
    passes: int
    tokens: int  # in all these passes
    blocks: str = ""  # the share of the model's blocks that a pass goes through


def describe(plan: Plan, notes: Sequence[str] = ()) -> str:
    """Describe a plan in plain text, without loading anything.

    Args:
        plan: The plan.
        notes: Further lines that the reader should know, such as those of `saebench.runner.inputs.check_inputs`.

    Raises:
        AssetError: The asset of the model is damaged.
    """
    counted, depth = hook_passes(plan), shape_of(plan.model).n_layers
    parts = ["\n".join([*_head(plan, depth), *notes])]
    if plan.saes:
        parts.append(_saes(plan))
    if plan.groups:
        parts.append(_sae_groups(plan))
    calibrated: set[str] = set()
    for sampling in samplings(plan):
        full = "full pass: clean losses and activations"
        rows = [_Row("every known hook", full, 1, sampling.tokens, f"{depth}/{depth}")]
        for passes in counted:
            rows += _rows(passes, depth) if passes.sampling == sampling else []
        if any(ref.fitted for ref in plan.saes) and sampling.text not in calibrated:
            calibrated.add(sampling.text)
            tokens = CALIBRATION_SEQUENCES * CALIBRATION_CONTEXT
            rows.append(_Row("every control's hook", "prefix pass: calibration of the fitted controls", 1, tokens))
        parts.append(_passes(sampling, rows, with_blocks=depth is not None))
    parts.append("\n".join(_notes(plan, with_costs=bool(counted))))
    return "\n\n".join(parts)


def _head(plan: Plan, depth: int | None) -> list[str]:
    budget = plan.request.budget()
    cache = f"{format_bytes(budget.cache)} in {cache_folder()}" if budget.cache else "none"
    lines = [
        f"model   {visible(str(plan.model))}{f', {depth} blocks' if depth is not None else ''}",
        f"results {visible(str(plan.request.out))}",
        f"memory  {format_bytes(budget.memory)} beside the weights",
        f"cache   {cache}",
    ]
    for task in plan.tasks:
        settings = ", ".join(f"{key}={value}" for key, value in task.parameters.items())
        lines.append(f"task    {task.name} v{task.version} ({task.preset}): {visible(settings)}")
    return [*lines, *map(visible, plan.notes), _jobs(plan)]


def _jobs(plan: Plan) -> str:
    """``12 jobs: 6 SAEs x 1 tasks x seeds 0, 1``, and the number of jobs on groups."""
    alone = f"{len(plan.saes)} SAEs x {sum(task.takes_saes for task in plan.tasks)} tasks"
    if less := sum(task.takes_saes and not task.takes(sae) for task in plan.tasks for sae in plan.saes):
        alone += f" less {less} with controls that tell nothing about the task"
    if compared := sum(len(task.groups) for task in plan.tasks):
        alone = f"({alone} + {compared} on SAE groups)"
    part = f" in shard {plan.request.shard}, out of" if plan.request.shard is not None else ""
    return f"{len(plan.jobs)} jobs{part}: {alone} x seeds {', '.join(map(str, _seeds(plan)))}"


def _sae_groups(plan: Plan) -> str:
    """The groups of SAEs, their members, and the tasks that compare them."""
    cells = []
    for group in plan.groups:
        tasks = ", ".join(task.name for task in plan.tasks if group in task.groups)
        first, *others = (visible(str(ref)) for ref in group.members)
        cells += [[visible(group.name), first, tasks], *(["", other, ""] for other in others)]
    return tabulate(cells, headers=["group", "SAE", "compared by"], tablefmt="plain", disable_numparse=True)


def _saes(plan: Plan) -> str:
    """The single SAEs by hook; each hook is named once."""
    cells = []
    for hook, saes in by_hook(plan).items():
        cells += [[_where(hook) if number == 0 else "", visible(str(ref))] for number, ref in enumerate(saes)]
    return tabulate(cells, headers=["hook", "SAE"], tablefmt="plain", disable_numparse=True)


def _where(hook: HookSite | None) -> str:
    return _UNKNOWN if hook is None else str(hook)


def _rows(counted: HookPasses, depth: int | None) -> list[_Row]:
    restart = None if counted.hook is None else restart_of(*counted.hook.sites_out)
    share = "" if depth is None or restart is None or restart > depth else f"{depth - restart}/{depth}"
    n, at_most = len(counted.saes), " (at most)" if counted.captures else ""
    kinds = [
        (counted.captures, "prefix passes, when their hook is known (at most)", ""),
        (counted.ablations, f"suffix passes: zero and mean ablation{at_most}", share),
        (counted.splices, f"suffix passes: {n} {'SAEs' if n > 1 else 'SAE'}", share),
    ]
    tokens = counted.sampling.tokens
    rows = [_Row("", what, passes, passes * tokens, blocks) for passes, what, blocks in kinds if passes]
    return [rows[0]._replace(where=_where(counted.hook)), *rows[1:]]


def _passes(sampling: Sampling, rows: list[_Row], *, with_blocks: bool) -> str:
    total = _Row("all", "", sum(row.passes for row in rows), sum(row.tokens for row in rows))
    cells = [[row.where, row.what, f"{row.passes:,}", f"{row.tokens:,}", row.blocks] for row in [*rows, total]]
    width = 5 if with_blocks else 4
    table = tabulate(
        [row[:width] for row in cells],
        headers=["hook", "of the language model", "passes", "tokens", "blocks"][:width],
        tablefmt="plain",
        disable_numparse=True,
        colalign=("left", "left", "right", "right", "right")[:width],
    )
    return (
        f"{sampling.text}, {sampling.sequences:,} sequences x {sampling.context_length:,} tokens, each seed:\n{table}"
    )


def _notes(plan: Plan, *, with_costs: bool) -> list[str]:
    lines = []
    if with_costs:
        lines.append("The tokens are an upper bound: a short text gives fewer.")
        if plan.request.cache_budget:
            lines.append("What the cache holds already is not computed again.")
        lines.append("A suffix pass goes through the blocks after the hook and the product with the vocabulary.")
    if len(_seeds(plan)) > 1:
        lines.append(f"All this is done {len(_seeds(plan))} times, once for each seed.")
    if others := [task.name for task in plan.tasks if not is_counted(task)]:
        lines.append(f"Not estimated: {', '.join(others)}; `saebench tasks NAME` says what a task costs.")
    return lines


def _seeds(plan: Plan) -> list[int]:
    return list(dict.fromkeys(plan.request.seed))
