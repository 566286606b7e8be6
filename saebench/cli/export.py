"""``saebench export``."""

from __future__ import annotations

from pathlib import Path

import click

from saebench.cli.output import echo
from saebench.results import DEFAULT_FOLDER


@click.command(short_help="Write records in another project's schema.")
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--schema",
    type=click.Choice(["every_eval_ever"]),
    default="every_eval_ever",
    show_default=True,
    help="The schema of the files.",
)
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to write into.",
)
@click.option("--organization", metavar="NAME", default="unknown", show_default=True, help="Who made the numbers.")
def export(folders: tuple[Path, ...], schema: str, out: Path, organization: str) -> None:
    """Write records in another project's schema, one JSON file per record. DIR is saebench-results by default.

    \b
    Examples:
      saebench export results --out every-eval-ever --organization "Example University"

    every_eval_ever is the schema 0.3.0 of https://github.com/evaleval/every_eval_ever. The files have the names that
    its datastore expects, and exporting again writes the same files. The schema requires that every score says whether
    lower is better. Metrics without a direction, such as L0, are therefore left out, and so are records that have no
    other numbers.

    Exit codes: 0, or 2 when there is nothing to write.
    """
    from saebench.errors import UsageError
    from saebench.results.every_eval_ever import write
    from saebench.results.table import read

    sources = folders or (DEFAULT_FOLDER,)
    try:
        written, left_out = write(read(*sources), out, organization)
    except OSError as error:
        raise UsageError(f"Cannot write into {out} ({error.strerror or error}); choose another --out.") from error
    if not written:
        where = ", ".join(map(str, sources))
        raise UsageError(f"No record in {where} has a number that {schema} can hold; nothing was written.")
    rest = f"; left out without a number that the schema can hold: {left_out}" if left_out else ""
    echo(f"records written to {out}: {written}{rest}")
