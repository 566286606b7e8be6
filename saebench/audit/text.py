"""An audit as text: a table of grades and lenses that fits 80 columns, and sentences on what decided each grade."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from saebench.cards.audits import LENSES, Audit, Finding, MetricAudit

WIDTH = 80
_HEADS = {lens: lens for lens in LENSES}


def mark(finding: Finding | None) -> str:
    """Return the best grade that a lens allows, in brackets where it could not be used."""
    if finding is None or finding.passed is None:
        return "(B)" if finding is None or finding.worst == "B" else finding.worst
    return finding.worst


def name(entry: MetricAudit) -> str:
    """Return the name of a metric with the subset that was audited."""
    return f"{entry.metric} ({entry.subset})" if entry.subset else entry.metric


def table(audits: Sequence[Audit]) -> str:
    """Return a line for each primary metric: its grade, and the best grade that each lens allows."""
    lines = []
    for audit in audits:
        lines.append([f"{audit.task} v{audit.task_version}", *[""] * (1 + len(LENSES))])
        for entry in audit.metrics:
            lines.append([f"  {name(entry)}", entry.grade, *(mark(entry.lenses.get(lens)) for lens in LENSES)])
    return tabulate(lines, headers=["metric", "grade", *_HEADS.values()], tablefmt="simple", disable_numparse=True)


def reasons(audit: Audit) -> str:
    """Return a paragraph for each metric on what decided its grade."""
    paragraphs = [
        textwrap.fill(f"{name(entry)} ({entry.grade}): {entry.reason}", WIDTH, subsequent_indent="  ")
        for entry in audit.metrics
    ]
    return "\n".join(paragraphs)
