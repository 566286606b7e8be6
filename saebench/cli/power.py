"""``saebench power``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from saebench.cli.output import echo

if TYPE_CHECKING:
    from saebench.cards.audits import MetricAudit


@click.command(short_help="Say how much must be measured to decide a difference.")
@click.argument("task")
@click.option(
    "--difference", metavar="D", type=float, help="The difference between two SAEs to decide.  [what a preset decides]"
)
@click.option("--metric", metavar="M", help="Only this metric.  [the primary ones]")
def power(task: str, difference: float | None, metric: str | None) -> None:
    """Say how much must be measured to decide a difference between two SAEs.

    \b
    Examples:
      saebench power sparse_probing
      saebench power core --difference 0.01
      saebench power unlearning --difference 0.1 --metric detector_auroc

    Decided means: 95 % confidence, and a chance of 80 % that the difference is found where it is there. The figures
    come from the audit of the task, which split the noise of a difference into units (documents, datasets, prompts) and
    the rest (draws of latents, settings, samples). More units take away the first part only; the second needs several
    seeds, over which the values are averaged.

    Exit codes: 0, or 2 when the task was not audited or the difference cannot be decided.
    """
    from tabulate import tabulate

    from saebench.audit.text import name
    from saebench.cards.audits import audit_of, stale
    from saebench.cards.registry import registry
    from saebench.errors import UsageError, did_you_mean

    registry().card(task)
    audit = audit_of(task)
    if audit is None:
        raise UsageError(stale(task))
    entries = [entry for entry in audit.metrics if metric in (None, entry.metric)]
    if not entries:
        known = [entry.metric for entry in audit.metrics]
        raise UsageError(f"The audit of {task} has no metric {metric!r}.{did_you_mean(str(metric), known)}")
    problems: list[str] = []
    lines = [[f"{name(entry)} ({entry.grade})", *_cells(entry, difference, problems)] for entry in entries]
    wanted = "decides" if difference is None else f"for {difference:g}"
    heads = ["metric (grade)", "preset", "units", "per unit", "rest", wanted]
    echo(tabulate(lines, headers=heads, tablefmt="simple", disable_numparse=True))
    for sentence in [*problems, *filter(None, [stale(task)])]:
        echo(f"\n{sentence}")


def _cells(entry: MetricAudit, difference: float | None, problems: list[str]) -> list[str]:
    """Return the cells of a metric after its name, and add to ``problems`` why a difference cannot be decided."""
    from saebench.audit.components import decided, needed
    from saebench.errors import UsageError

    noise = entry.components
    if noise is None:
        return ["", "", "", "", "unknown"]  # its units belong to each SAE, so that nothing can be paired
    cells = [noise.preset, f"{noise.n} {noise.unit}s", f"{noise.per_unit:.3g}", f"{noise.rest:.3g}"]
    if difference is None:
        return [*cells, f"{decided(noise):.2g}"]
    try:
        wanted = needed(noise, difference)
    except UsageError as error:
        if not difference > 0:
            raise
        problems.append(f"{entry.metric}: {error}")
        return [*cells, "impossible"]
    seeds = f", {wanted.seeds} seeds" if wanted.seeds > 1 else ""
    return [*cells, f"{wanted.units:,} {noise.unit}s{seeds}"]
