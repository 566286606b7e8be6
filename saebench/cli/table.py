"""``saebench table``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    import pandas as pd

    from saebench.results.table import Format

_DEFAULT = Path("saebench-results")


@click.command(short_help="Print the table of records.")
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["md", "csv", "json", "parquet"]),
    default="md",
    show_default=True,
    help="Of the output.",
)
@click.option(
    "--wide/--long",
    default=None,
    help="Wide: a row per SAE, for reading. Long: a row per number, with all columns.  "
    "[wide for md, long for csv, json and parquet]",
)
@click.option("--metric", "metrics", metavar="M", multiple=True, help="Only this metric; may be repeated.")
@click.option("--task", metavar="T", help="Only this task.")
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write here.  [stdout]")
def table(
    folders: tuple[Path, ...],
    format_: str,
    wide: bool | None,
    metrics: tuple[str, ...],
    task: str | None,
    output: Path | None,
) -> None:
    """Print the table of records, by default those in saebench-results.

    DIR may be a folder of records of any depth, a part of one, or a single record; several are joined.

    \b
    Examples:
      saebench table
      saebench table --metric fvu --metric l0
      saebench table results-a results-b --format csv --output all.csv

    The wide table shows each task's main metrics unless --metric names others. The long table has one row per number:
    which SAE, model, task and seed, the value, its interval, and how it was made. Exit codes: 0, or 2 when there is
    nothing to show.
    """
    from saebench.errors import UsageError

    if format_ == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for terminals; name a file with --output.")
    content = _content(folders or (_DEFAULT,), format_, format_ == "md" if wide is None else wide, metrics, task)
    if output is None:
        click.echo(content, nl=False)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise UsageError(f"Cannot write {output} ({error.strerror}); choose another --output.") from error


def _content(folders: Sequence[Path], format_: str, wide: bool, metrics: Sequence[str], task: str | None) -> bytes:
    from saebench.errors import UsageError
    from saebench.results.table import export, load, select, to_wide
    from saebench.tasks.registry import registry

    frame = load(*folders, metrics=registry().metric)
    if frame.empty:
        where = ", ".join(map(str, folders))
        raise UsageError(f"There are no records in {where}; `saebench run --out {folders[0]}` writes some.")
    if task is not None:
        frame = _of_task(frame, task)
    if metrics:
        frame = select(frame, metrics)
    file_format = cast("Format", format_)
    if not wide:
        return export(frame, file_format)
    columns = {name: list(metrics) for name in frame["task"]} if metrics else registry().table_columns()
    tables = to_wide(frame, columns)
    if len(tables) > 1 and file_format != "md":
        raise UsageError(
            f"These records make {len(tables)} wide tables (one per task, preset, model and site), which {format_} "
            "cannot hold; choose fewer with --task or DIR, or use --long."
        )
    return b"\n".join(export(one, file_format) for one in tables)


def _of_task(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    from saebench.errors import UsageError, did_you_mean

    known = sorted(set(frame["task"]))
    if task not in known:
        raise UsageError(f"No record is of the task {task!r}.{did_you_mean(task, known)}")
    return frame[frame["task"] == task]
