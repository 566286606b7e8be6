"""``saebench submit``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import click

SOME_WRONG = 1


@click.command(short_help="Check a folder of records before it is published.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def submit(folder: Path) -> None:
    """Check a folder of records before it is published: yours before a pull request, or somebody else's.

    \b
    Examples:
      saebench run --sae sae_lens:RELEASE/ID --out my-results
      saebench submit my-results

    Nothing is sent and nothing is run again. Checked are the schema, that ids fit identities and files lie where they
    belong, that numbers follow from the contributions beside them and keep to their intervals and to the bounds of the
    task's card, that the card's version is current, and that no text gives away a path, an e-mail address or a token.
    CONTRIBUTING.md says how to submit.

    Exit codes: 0 all is well (there may be warnings), 1 something is wrong, 2 there is nothing to check.
    """
    from saebench.cards.registry import registry
    from saebench.errors import UsageError
    from saebench.submission.folder import check_folder

    report = check_folder(folder, registry())
    if not report.records and not report.findings:
        raise UsageError(f"There are no records in {folder}; `saebench run --out {folder}` writes some.")
    for path, findings in groupby(report.findings, key=lambda finding: finding.path):
        click.echo(path)
        for finding in findings:
            click.echo(f"  {'warning: ' if finding.warning else ''}{finding.message}")
    wrong, warnings = len(report.errors), len(report.findings) - len(report.errors)
    told = [f"{wrong} wrong" if wrong else "nothing wrong", f"{warnings} to know" if warnings else ""]
    click.echo(f"{report.records} records: {', '.join(filter(None, told))}")
    if wrong:
        click.get_current_context().exit(SOME_WRONG)
