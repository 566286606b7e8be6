"""``saebench audit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saebench.cli.output import echo
from saebench.cli.quiet import quiet_libraries

if TYPE_CHECKING:
    from saebench.cards.card import TaskCard

SOME_FAILED, INTERRUPTED = 1, 130


@click.command(short_help="Grade metrics by whether they can be believed.")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...|all")
@click.option("--size", metavar="NAME", default="default", show_default=True, help="planted, default or full.")
@click.option("--seed", metavar="N", type=click.IntRange(min=0), default=0, show_default=True, help="The first seed.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path("saebench-audit"),
    show_default=True,
    help="Folder for records and audits; the same command goes on from there.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    help="Tasks that are audited at a time.  [one for each core that memory allows; 1 on a GPU]",
)
@click.option(
    "--install",
    is_flag=True,
    help="Also put the audits where saebench looks for them, so that tables and boards show these grades.",
)
@click.pass_context
def audit(
    context: click.Context,
    /,
    tasks: tuple[str, ...],
    size: str,
    seed: int,
    out: Path,
    workers: int | None,
    install: bool,
) -> None:
    """Measure whether the metrics of a task can be believed, and grade them.

    \b
    Examples:
      saebench audit core
      saebench audit all
      saebench audit sparse_probing --seed 100 --out second-audit

    Every primary metric is looked at through six lenses: the noise of the evaluation; the truth, on SAEs of a language
    model whose features are known; training, along which it should rise, and controls, which it should tell from
    trained SAEs; precision, which is number types and batch sizes; gaming, by degenerate SAEs; and invariance, under
    ways of writing the same SAE. A ranks SAEs, B ranks them with a warning, C is shown and never ranked.

    `all` takes the tasks for language models that measure single SAEs or seeds of an SAE. The size `planted` measures
    on a planted language model only, and takes about half an hour on two cores. `default` also measures trained SAEs
    and controls on Gemma-3-270m, within an hour. `full` measures everything on both, under five seeds, and takes
    several hours. docs/reliability.md explains lenses, rules and results.

    Exit codes: 0 every task was audited, 1 some could not be, 2 a name is wrong, 130 interrupted.
    """
    from saebench.audit.calls import size_named
    from saebench.safe_text import visible

    size_named(size)  # before the libraries, which take seconds
    names = _names(tasks)
    quiet_libraries()
    from saebench.audit.audit import Outcome, write
    from saebench.audit.text import reasons, table
    from saebench.audit.workers import Asked, audit_tasks, most_workers
    from saebench.cards.audits import audit_path
    from saebench.progress import ConsoleProgress

    made, problems = [], []
    asked, number = Asked(size, seed, out), workers or most_workers(len(names))
    try:
        for name, outcome in audit_tasks(names, asked, number, ConsoleProgress()):
            if not isinstance(outcome, Outcome):
                problems.append(f"{name}: {outcome}")
                continue
            made.append(outcome.audit)
            problems += outcome.failed
            if install:
                write(outcome.audit, audit_path(name).parent)
    except KeyboardInterrupt:
        echo("interrupted; the same command goes on from there", err=True)
        context.exit(INTERRUPTED)
    if made:
        echo(f"\n{table(made)}\n")
        for one in made:
            echo(f"{one.task} v{one.task_version}\n{reasons(one)}\n")
    for problem in problems:
        echo(f"failed: {visible(problem)}", err=True)
    context.exit(SOME_FAILED if len(made) < len(names) else 0)


def _names(tasks: Sequence[str]) -> list[str]:
    """Return the tasks to audit. Raises UsageError for one that does not exist, and for a task of sites."""
    from saebench.cards.registry import registry
    from saebench.errors import UsageError

    known = registry()
    if "all" in tasks:
        if len(tasks) > 1:
            raise UsageError("`all` stands for every task; name tasks, or all of them, and not both.")
        return [name for name in known.names() if not _obstacle(known.card(name))]
    names = list(dict.fromkeys(tasks))
    for name in names:
        if obstacle := _obstacle(known.card(name)):
            raise UsageError(obstacle)
    return names


def _obstacle(card: TaskCard) -> str:
    """Say why a task cannot be audited; empty where it can."""
    if card.scope == "group" and card.groups != "seeds":
        return f"{card.name} compares SAEs that differ in {card.groups}; there is no audit of such tasks yet."
    if card.model != "language":
        return f"{card.name} measures the truth on synthetic models, against which other tasks are audited."
    return ""
