"""``saebench submit``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import click

from saebench.cli.output import echo

SOME_WRONG = 1
_MOST_SHOWN = 20  # findings of one file
_LONGEST = 1_000  # characters of a finding


@click.command(short_help="Check a folder of records before it is published.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def submit(folder: Path) -> None:
    """Check a folder of records before it is published: your own before a pull request, or somebody else's.

    \b
    Examples:
      saebench run --sae sae_lens:RELEASE/ID --out my-results
      saebench submit my-results

    The command sends nothing and runs nothing again. It checks that records fit the schema, that ids fit identities,
    that files are where they belong, that numbers follow from the contributions beside them and are within their
    intervals and the bounds of the task's card, that the card's version is current, and that no text holds a path, an
    e-mail address or a token. Files that a killed run left behind are only mentioned. CONTRIBUTING.md says how to
    submit.

    Exit codes: 0 nothing is wrong (there may be warnings), 1 something is wrong, 2 there is nothing to check.
    """
    from saebench.errors import UsageError
    from saebench.safe_text import short
    from saebench.submission.folder import check_folder

    report = check_folder(folder)
    if not report.records and not report.findings:
        raise UsageError(f"There are no records in {folder}; `saebench run --out {folder}` writes some.")
    for path, of_path in groupby(report.findings, key=lambda finding: finding.path):
        findings = list(of_path)
        echo(short(path))
        for finding in findings[:_MOST_SHOWN]:
            echo(f"  {'warning: ' if finding.warning else ''}{short(finding.message, _LONGEST)}")
        if len(findings) > _MOST_SHOWN:
            echo(f"  and {len(findings) - _MOST_SHOWN:,} more")
    wrong, warnings = len(report.errors), len(report.findings) - len(report.errors)
    outcome = _count(wrong, "error") if wrong else "nothing wrong"
    also = f", {_count(warnings, 'warning')}" if warnings else ""
    echo(f"{_count(report.records, 'record')}: {outcome}{also}")
    if wrong:
        click.get_current_context().exit(SOME_WRONG)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
