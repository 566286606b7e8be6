"""``saebench table``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from saebench.atomic import write_output
from saebench.cli.filters import filter_options, to_filters
from saebench.cli.output import write
from saebench.results import DEFAULT_FOLDER

if TYPE_CHECKING:
    import pandas as pd

    from saebench.results.filters import Filters
    from saebench.results.table import Format


@click.command(short_help="Print the table of records.")
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["md", "latex", "csv", "json", "parquet"]),
    default="md",
    show_default=True,
    help="The format of the output.",
)
@click.option(
    "--wide/--long",
    default=None,
    help="Wide: a row per SAE, for reading. Long: a row per number, with all columns.  "
    "[wide for md and latex, long for csv, json and parquet]",
)
@click.option("--pivot", metavar="ROWS/COLUMNS", help="Plain values, such as sae/metric or sae,seed/task,metric.")
@filter_options
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.  [stdout]"
)
def table(
    folders: tuple[Path, ...],
    format_: str,
    wide: bool | None,
    pivot: str | None,
    output: Path | None,
    **filters: Any,
) -> None:
    """Print the table of records, by default of those in saebench-results.

    DIR may be a folder of records of any depth, a part of one, or a single record. Several are joined. Files that are
    not records are named on stderr and left out.

    \b
    Examples:
      saebench table
      saebench table --metric fvu --metric l0
      saebench table --task core --sae 'zoo:*' --format latex
      saebench table results --task core --pivot sae/metric --format csv
      saebench table results-a results-b --format csv --output all.csv

    The wide table shows the main metrics of each task unless --metric names others. The long table has one row per
    number: the SAE, model, task and seed, the value, its interval, and how it was made. A pivot has one number per cell
    and averages nothing: if two numbers fall into one cell, the message says how they differ. Its fields are sae, task,
    metric, subset, model, hook, preset, seed, task_version, record_id, architecture, d_sae, l0 and control.

    A filter may be repeated, and then a row must fit one of its values; different filters must all fit. Names may hold
    * and ?. LaTeX needs the package booktabs. In CSV, a text that a spreadsheet would run as a formula has an
    apostrophe in front of it.

    Exit codes: 0, or 2 when there is nothing to show.
    """
    from saebench.errors import UsageError

    if format_ == "parquet" and output is None and sys.stdout.isatty():
        raise UsageError("A terminal cannot show Parquet; name a file with --output.")
    if pivot is not None and wide is not None:
        raise UsageError("--pivot makes a table of its own; leave out --wide or --long.")
    frame, metrics = _wanted(folders or (DEFAULT_FOLDER,), to_filters(filters))
    file_format = cast("Format", format_)
    if pivot is not None:
        content = _pivoted(frame, pivot, file_format)
    elif wide or (wide is None and format_ in ("md", "latex")):
        content = _wide(frame, metrics, file_format)
    else:
        from saebench.results.table import export

        content = export(frame, file_format)
    if output is None:
        write(content)
        return
    try:
        write_output(output, content)
    except OSError as error:
        raise UsageError(f"Cannot write {output} ({error.strerror}); choose another --output.") from error


def _wanted(folders: Sequence[Path], filters: Filters) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that fit ``filters``, and the metrics that these name."""
    from saebench.errors import UsageError
    from saebench.results.filters import apply, matching
    from saebench.results.table import load

    frame = load(*folders)
    if frame.empty:
        where = ", ".join(map(str, folders))
        raise UsageError(f"There are no records in {where}; `saebench run --out {folders[0]}` writes some.")
    return apply(frame, filters), matching(frame, "metric", filters.metric)


def _wide(frame: pd.DataFrame, metrics: Sequence[str], format_: Format) -> bytes:
    from saebench.cards.registry import registry
    from saebench.errors import UsageError
    from saebench.results.table import export, to_wide

    tables = to_wide(frame, {name: metrics for name in frame["task"]} if metrics else registry().table_columns())
    if len(tables) > 1 and format_ not in ("md", "latex"):
        raise UsageError(
            f"These records make {len(tables)} wide tables (one per task, preset, model and hook), but {format_} holds "
            "only one; choose among them with --task or DIR, or use --long."
        )
    return b"\n".join(export(one, format_) for one in tables)


def _pivoted(frame: pd.DataFrame, fields: str, format_: Format) -> bytes:
    from saebench.results.pivot import parse, pivot
    from saebench.results.table import export

    cells = pivot(frame, *parse(fields))
    if format_ == "md":
        for column in cells.select_dtypes("float"):
            cells[column] = cells[column].map("{:.4g}".format, na_action="ignore")
    return export(cells, format_)
