"""An audit as text: a table of grades and lenses that fits 80 columns, and sentences on what decided each grade."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from saebench.cards.audits import LENSES, Audit, Finding, MetricAudit

WIDTH = 80
_NAME = 24  # characters of a metric's name, so that the table fits


def mark(finding: Finding | None) -> str:
    """Return the best grade that a lens allows, in brackets where it could not be used."""
    if finding is None or finding.passed is None:
        return "(B)" if finding is None or finding.worst == "B" else finding.worst
    return finding.worst


def name(entry: MetricAudit) -> str:
    """Return the name of a metric with the subset that was audited."""
    return f"{entry.metric} ({entry.subset})" if entry.subset else entry.metric


def shorten(text: str, width: int) -> str:
    """Return text of at most ``width`` characters."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def table(audits: Sequence[Audit]) -> str:
    """Return a line for each primary metric: its grade, and the best grade that each lens allows."""
    lines = [["metric", "grade", *LENSES]]
    for audit in audits:
        lines.append([f"{audit.task} v{audit.task_version}", *[""] * (1 + len(LENSES))])
        for entry in audit.metrics:
            marks = (mark(entry.lenses.get(lens)) for lens in LENSES)
            lines.append([f"  {shorten(name(entry), _NAME)}", entry.grade, *marks])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = (" ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(rows)


def reasons(audit: Audit) -> str:
    """Return a paragraph for each metric on what decided its grade."""
    paragraphs = [
        textwrap.fill(f"{name(entry)} ({entry.grade}): {entry.reason}", WIDTH, subsequent_indent="  ")
        for entry in audit.metrics
    ]
    return "\n".join(paragraphs)
