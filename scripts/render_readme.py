"""Fill the tables of README.md from the published records, or check that they are up to date.

A block ``<!-- table:TASK -->`` … ``<!-- /table -->`` is replaced by the readable table of that task's records
below ``results/``. ``--check`` writes nothing and exits with 1 when the README differs from what would be written.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

from saebench.errors import SaebenchError, UsageError, did_you_mean
from saebench.results import table
from saebench.tasks.registry import registry

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"(<!-- table:(?P<task>\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_OPENING = re.compile(r"<!-- table:")


def render(readme: str, records: pd.DataFrame) -> str:
    """``readme`` with every table block filled from ``records``, whose columns are `table.COLUMNS`.

    Raises UsageError for a block that is never closed or that names an unknown task.
    """
    blocks = list(_BLOCK.finditer(readme))
    if not blocks or len(blocks) != len(_OPENING.findall(readme)):
        raise UsageError(
            "Table blocks are opened by <!-- table:TASK --> and closed by <!-- /table -->; mend the README."
        )
    return _BLOCK.sub(lambda block: f"{block[1]}{_tables(block['task'], records)}\n{block[3]}", readme)


def _tables(task: str, records: pd.DataFrame) -> str:
    known = registry().names()
    if task not in known:
        raise UsageError(f"The README has a table of the unknown task {task!r}.{did_you_mean(task, known)}")
    rows = records[records["task"] == task]
    if rows.empty:
        return "\n*No published records yet.*\n"
    tables = [wide.to_markdown() for wide in table.to_wide(rows, registry().table_columns())]
    return "\n" + "\n\n".join([*tables, _made_by(rows)]) + "\n"


def _made_by(rows: pd.DataFrame) -> str:
    jobs = rows.drop_duplicates("record_id")
    versions, devices = (", ".join(sorted(set(jobs[column]))) for column in ("saebench_version", "device"))
    return f"*{len(jobs)} records of saebench {versions} on {devices}, {jobs['wall_seconds'].sum() / 60:.1f} minutes.*"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the README is stale")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of records")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file to fill")
    options = parser.parse_args(arguments)

    before = options.readme.read_text(encoding="utf-8")
    try:
        after = render(before, table.load(options.results, metrics=registry().metric))
    except SaebenchError as error:
        print(error, file=sys.stderr)
        return 2
    if after == before:
        return 0
    if options.check:
        print(f"{options.readme.name} is stale; run: .venv/bin/python scripts/render_readme.py", file=sys.stderr)
        return 1
    options.readme.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
