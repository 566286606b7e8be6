"""``saebench run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saebench.cli.output import echo
from saebench.cli.quiet import quiet_libraries

if TYPE_CHECKING:
    from saebench.results.record import Record
    from saebench.runner.execute import RunSummary

SOME_FAILED, INTERRUPTED = 1, 130


def _names(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[str] | None:
    names: list[str] = []
    for value in values:
        some = [name.strip() for name in value.split(",") if name.strip()]
        if not some:
            raise click.BadParameter("name at least one task; `saebench tasks` lists them.")
        names += some
    return names or None


@click.command(short_help="Evaluate SAEs and write a record for each.")
@click.option("--suite", metavar="NAME", help="Every task at this preset: smoke, quick, standard or paper.  [quick]")
@click.option(
    "--tasks",
    metavar="A,B",
    multiple=True,
    callback=_names,
    help="Tasks, separated by commas; may be repeated.  [all; see `saebench tasks`]",
)
@click.option(
    "--sae", metavar="REF", multiple=True, help="An SAE; may be repeated.  [the zoo and controls; see `saebench saes`]"
)
@click.option(
    "--sae-group",
    metavar="NAME=REF,REF",
    multiple=True,
    help="SAEs to compare with each other, such as the seeds of one SAE, and a name for them; or only the name of a "
    "predefined group; may be repeated.  [the predefined groups, unless --sae is given; see `saebench saes`]",
)
@click.option(
    "--model",
    metavar="REF",
    help="Language model: asset:NAME, hf:ORG/NAME[@REVISION] or a folder; or a synthetic model, such as "
    "synthetic:small.  [asset:gemma-3-270m]",
)
@click.option(
    "--hook",
    metavar="SITE",
    help="Hook point of SAEs that name none, such as blocks.9.hook_resid_post.  [for controls, that of the zoo's SAEs, "
    "else the middle of the model]",
)
@click.option("--preset", metavar="NAME", help="Sizes of the tasks: smoke, quick, standard or paper.  [the suite's]")
@click.option(
    "--text",
    metavar="REF",
    help="Text: asset:sae-probes/NAME, jsonl:PATH[:FIELD], csv:PATH[:FIELD], parquet:PATH[:FIELD], txt:PATH or "
    "hf:DATASET.  [the task's own]",
)
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Folder for results.  [saebench-results]")
@click.option("--seed", metavar="N", type=int, multiple=True, help="Seed; may be repeated.  [0]")
@click.option("--device", metavar="D", help="auto, cpu, cuda or cuda:INDEX.  [auto]")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="Type of the language model; auto is bfloat16 if the hardware multiplies it, else float32.  [auto]",
)
@click.option("--limit", metavar="N", type=click.IntRange(min=2), help="Sequences to evaluate.  [the preset's]")
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(min=1),
    help="Sequences at a time.  [chosen from the model and the memory budget]",
)
@click.option(
    "--memory-budget", metavar="SIZE", help="Working memory beside the weights, such as 800MB or 2GiB.  [1GB]"
)
@click.option(
    "--cache-budget",
    metavar="SIZE",
    help="Disk for activations and losses that runs share, 0 for none; see `saebench cache`.  [20GB]",
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="YAML file with these options; options on the command line override it. It may also hold "
    "`parameters: {core: {context_length: 256}}`.",
)
@click.option(
    "--overwrite",
    type=click.Choice(["missing", "failed", "always"]),
    help="Compute what has no record (missing), also what failed (failed), or everything (always).  [missing]",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Only part I, from 0, of N parts of the work; the parts together are the whole run.",
)
@click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Let Python code that comes with the language model run. Read it first: it can do whatever you can.",
)
@click.option(
    "--allow-python",
    is_flag=True,
    help="Let --config name SAEs of the scheme `python:`, whose code then runs. Read it first.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only print what would be done, what it costs, and which tasks cannot use their inputs.",
)
@click.pass_context
def run(context: click.Context, /, config: Path | None, dry_run: bool, **options: Any) -> None:
    """Evaluate SAEs. Without options, evaluate the SAEs that ship with saebench, and controls, on Gemma-3-270m.

    \b
    Examples:
      saebench run
      saebench run --sae sae_lens:path/to/folder --sae baseline:pca --text jsonl:my.jsonl
      saebench run --model asset:smollm2-135m --sae "baseline:pca?hook=blocks.15.hook_resid_post"
      saebench run --sae-group seeds=sae_lens:path/to/seed0,sae_lens:path/to/seed1
      saebench run --config run.yaml --seed 0 --seed 1 --out results-two-seeds
      saebench run --config sweep.yaml --out shared --shard "$SLURM_ARRAY_TASK_ID/8"   # sbatch --array=0-7

    Tasks that compare SAEs with each other take groups. All other tasks take single SAEs: those of --sae, or else the
    members of the groups of --sae-group.

    Each SAE (or group), task and seed gives one record below --out with its numbers, their intervals and how they were
    made. A record is written as a whole or not at all. Existing records are not computed again, so after a crash or
    Ctrl-C the same command goes on. Missing language models and texts are fetched first, once. In the end the run
    prints a table, which `saebench table` prints again.

    Code of others runs only if you name it: an SAE `python:...` on the command line runs its file. A config file can
    neither name code nor allow it.

    Exit codes: 0 all records ok (or not applicable), 1 some failed or were lost, 2 nothing could run, 130 interrupted.
    """
    from saebench.runner.plan import make_plan
    from saebench.runner.request import make_request

    chosen = {
        key: list(value) if isinstance(value, tuple) else value for key, value in options.items() if is_set(value)
    }
    plan = make_plan(make_request(chosen, config))
    if dry_run:
        from saebench.runner.describe import describe
        from saebench.runner.inputs import check_inputs

        echo(describe(plan, check_inputs(plan)))
        return

    quiet_libraries()
    from saebench.progress import ConsoleProgress
    from saebench.runner.execute import execute

    summary = execute(plan, ConsoleProgress())
    if summary.interrupted:
        echo(
            f"interrupted: {len(summary.records)} of {len(plan.jobs)} records are written; "
            "the same command goes on from there",
            err=True,
        )
        context.exit(INTERRUPTED)
    _report(summary)
    context.exit(SOME_FAILED if _failed(summary) or summary.lost else 0)


def is_set(value: object) -> bool:
    """Whether the user set an option; a flag that was not given is False."""
    return value not in (None, (), False)


def _failed(summary: RunSummary) -> list[str]:
    """One line for each failed record."""
    return [f"{_name(r)} ({r.identity.task}): {r.error}" for r in summary.records if r.status.value == "failed"]


def _name(record: Record) -> str:
    """The reference of an SAE, or the name of a group, whose reference is too long to read."""
    from saebench.results.record import GROUP

    return record.sae.name if record.sae.name.startswith(GROUP) else record.identity.sae


def _report(summary: RunSummary) -> None:
    from saebench.cards.registry import registry
    from saebench.results.table import from_records, to_wide
    from saebench.safe_text import visible

    frame = from_records(summary.records)
    for wide in to_wide(frame, registry().table_columns()):
        echo(f"\n{wide.to_markdown()}")
    echo(f"\n{_closing_line(summary)}")
    if failed := _failed(summary):
        echo("\nfailed:")
        for line in failed:
            echo(f"  {visible(line)}")
        echo("once the cause is fixed, run again with --overwrite failed")
    if summary.lost:
        echo(f"\nlost, because somebody removed them from {summary.out} during the run:")
        for record in summary.lost:
            echo(f"  {_name(record)} ({record.identity.task})")
        echo("the same command makes them again")


def _closing_line(summary: RunSummary) -> str:
    from saebench.results.record import Status

    n = len(summary.records)
    if not n:
        return "nothing to do: there are more shards than SAEs"
    if summary.new == 0:
        return f"nothing to do: {'the record is' if n == 1 else f'all {n} records are'} there, in {summary.out}"
    counts = ", ".join(f"{summary.count(status)} {status.value.replace('_', ' ')}" for status in Status)
    noun = "record" if n == 1 else "records"
    return f"{n} {noun} ({counts}), {summary.new} new, in {summary.out}, {_duration(summary.wall_seconds)}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
