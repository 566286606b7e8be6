"""Fill the tables of README.md and of the tasks' pages from the published records, or check that they are up to date.

A block ``<!-- table:TASK -->`` … ``<!-- /table -->`` is replaced by the wide table of that task's records in
``results/``; ``<!-- table:TASK METRIC METRIC -->`` shows only those metrics. ``--check`` writes nothing and exits with
1 when a page is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

from saebench.cards.registry import registry
from saebench.errors import SaebenchError, UsageError, did_you_mean
from saebench.results import table

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"(<!-- table:(?P<task>\w+)(?P<metrics>( \w+)*) -->\n).*?(<!-- /table -->)", re.DOTALL)
_OPENING = re.compile(r"<!-- table:")


def render(page: str, records: pd.DataFrame) -> str:
    """Return ``page`` with every table block filled from ``records``, whose columns are `table.COLUMNS`.

    Raises UsageError for a block that is never closed or that names an unknown task or metric.
    """
    if len(_BLOCK.findall(page)) != len(_OPENING.findall(page)):
        raise UsageError(
            "A table begins with <!-- table:TASK --> and is closed by <!-- /table -->; one of them is missing."
        )
    return _BLOCK.sub(lambda block: f"{block[1]}{_tables(block, records)}\n<!-- /table -->", page)


def _tables(block: re.Match[str], records: pd.DataFrame) -> str:
    task = block["task"]
    known = registry().names()
    if task not in known:
        raise UsageError(f"There is a table of the unknown task {task!r}.{did_you_mean(task, known)}")
    metrics = block["metrics"].split()
    for metric in metrics:
        registry().card(task).metric(metric)
    rows = records[records["task"] == task]
    if rows.empty:
        return "\n*No published records yet.*\n"
    columns = {**registry().table_columns(), **({task: metrics} if metrics else {})}
    tables = [wide.to_markdown() for wide in table.to_wide(rows, columns)]
    return "\n" + "\n\n".join([*tables, _made_by(rows)]) + "\n"


def _made_by(rows: pd.DataFrame) -> str:
    jobs = rows.drop_duplicates("record_id")
    versions, devices = (", ".join(sorted(set(jobs[column]))) for column in ("saebench_version", "device"))
    return f"*{len(jobs)} records of saebench {versions} on {devices}, {jobs['wall_seconds'].sum() / 60:.1f} minutes.*"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page is out of date")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of records")
    parser.add_argument("pages", type=Path, nargs="*", help="files to fill; README.md and docs/tasks/*.md by default")
    options = parser.parse_args(arguments)

    stale = []
    try:
        records = table.load(options.results)
        for page in options.pages or [ROOT / "README.md", *sorted((ROOT / "docs" / "tasks").glob("*.md"))]:
            before = page.read_text(encoding="utf-8")
            after = render(before, records)
            if after == before:
                continue
            stale.append(page.name)
            if not options.check:
                page.write_text(after, encoding="utf-8")
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    if options.check and stale:
        print(f"out of date: {', '.join(stale)}; run: .venv/bin/python scripts/render_tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
